# SPDX-License-Identifier: Apache-2.0
"""`p2pctl patch`: build, sign, publish, list, show and withdraw releases."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import trio
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from seeds.commands.context import (
    Session,
    bad_input_exits,
    json_option,
    now,
    offline_passphrase_option,
    online_passphrase_option,
    passphrase,
    show,
)
from seeds.commands.delta_options import base_versions, delta_options, show_outcomes, show_transports, wanted_bases
from seeds.commands.health_options import health_options, health_plan
from seeds.commands.patch_views import describe, list_for_people, list_releases, show_manifest
from seeds.commands.publication import publish_role, shelf_of, sign_role
from seeds.fleet import Fleet
from seeds.services.building import PatchWish, build_patch
from seeds.services.building import Progress as Tell
from seeds.services.deltas import add_deltas
from seeds.services.publishing import next_counter, poke_coordinator, stage_patch, stage_recall
from seeds.signers import open_role_signer, open_signers
from signing.codec import decode
from signing.errors import BadInput
from signing.manifest import Applicability, Manifest, Requirement, Severity, manifest_target
from signing.repository import Repository


@click.group()
def patch() -> None:
    """Build, sign, publish, list, show and withdraw patches."""


@patch.command()
@click.argument("name")
@click.argument("version")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--counter", type=int, help="Release counter, which orders releases.  [default: one more than the last]")
@click.option("--severity", type=click.Choice([s.value for s in Severity]), default="moderate", show_default=True)
@click.option("--cve", "cves", multiple=True, help="A CVE that it mends; may repeat.")
@click.option("--summary", default="", help="One sentence for people.")
@click.option("--system", "systems", multiple=True, help="Only for this operating system (linux …); may repeat.")
@click.option("--machine", "machines", multiple=True, help="Only for this machine type (x86_64 …); may repeat.")
@click.option("--depends", multiple=True, help="PRODUCT or PRODUCT:LEAST_COUNTER that must be installed; may repeat.")
@click.option("--conflicts", multiple=True, help="PRODUCT that must not be installed; may repeat.")
@click.option("--oldest-fallback", default=0, show_default=True, help="Least counter that it may be rolled back to.")
@delta_options
@click.option("--torrents", is_flag=True, help="Torrents even for a small payload, for agents that need them.")
@health_options
@json_option
@click.pass_obj
def build(session: Session, /, name: str, version: str, source: Path, *, as_json: bool, **options: Any) -> None:
    """Build release VERSION of NAME from SOURCE: a directory, a wheel or zip, a tar, or a .deb. Then sign it."""
    with bad_input_exits():
        fleet = session.fleet()
        repository = Repository(fleet.repository)
        counter = options["counter"]
        wish = PatchWish(
            product=name,
            version=version,
            release_counter=counter if counter is not None else next_counter(repository, name),
            severity=Severity(options["severity"]),
            cves=options["cves"],
            summary=options["summary"],
            applicability=_applicability(options["systems"], options["machines"]),
            depends=tuple(_requirement(text) for text in options["depends"]),
            conflicts=options["conflicts"],
            health=health_plan(
                **{
                    key: options[key]
                    for key in ("health_file", "commands", "urls", "addresses", "probation", "interval")
                }
            ),
            oldest_fallback=options["oldest_fallback"],
        )
        scratch = fleet.staged_payloads / ".building"
        try:
            with _progress(session, quiet=as_json) as tell:
                authorities = _authorities(fleet)
                bases = wanted_bases(repository, name, options["bases"], newest=options["newest_bases"])
                built, payload = build_patch(
                    wish,
                    source,
                    into=scratch,
                    segment_authorities=authorities,
                    always_torrents=options["torrents"],
                    progress=tell,
                )
                built, outcomes = add_deltas(
                    built,
                    () if options["no_delta"] else bases,
                    find_transport=shelf_of(fleet).find,
                    into=scratch,
                    segment_authorities=authorities,
                    progress=tell,
                )
            stage_patch(repository, shelf_of(fleet), built, now=now())
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    facts = describe(built.manifest, state="unsigned") | {"left_out": list(payload.suggested.ignored)}
    facts["built_deltas"] = [asdict(outcome) for outcome in outcomes]

    def for_people() -> None:
        show_manifest(session.console, {name: value for name, value in facts.items() if name != "built_deltas"})
        show_outcomes(session.console, outcomes)
        for sentence in payload.suggested.ignored:
            session.console.print(f"[yellow]left out:[/] {escape(sentence)}")
        session.console.print(f"Next: [bold]p2pctl patch sign[/] ({repository.threshold('patches')} signatures needed)")

    show(as_json, facts, for_people)


@patch.command()
@click.option("--key", "keys", multiple=True, help="URI of one release key; may repeat.  [default: all configured]")
@offline_passphrase_option
@json_option
@click.pass_obj
def sign(session: Session, keys: tuple[str, ...], offline_passphrase: Path | None, *, as_json: bool) -> None:
    """Sign what was built, with one release key after the other. Two people sign on two days, if they like."""
    with bad_input_exits():
        fleet = session.fleet()
        repository = Repository(fleet.repository)
        if not any(version.role == "patches" for version in repository.pending()):
            raise BadInput(str(fleet.directory), "nothing waits to be signed", "build a patch first")
        secret = passphrase(offline_passphrase, "offline")
        with session.busy("signing", quiet=as_json):
            if keys:
                signers = [open_role_signer(fleet, repository, "patches", uri, lambda _: secret) for uri in keys]
            else:
                signers = list(open_signers(fleet, repository, "patches", lambda _: secret))
            for signer in signers:
                with repository.lock():
                    have, need = repository.sign("patches", signer)
    facts = {"role": "patches", "signatures": have, "needed": need}
    follow_up = "p2pctl patch publish" if have >= need else "p2pctl patch sign --key …"
    show(as_json, facts, lambda: session.console.print(f"{have} of {need} signatures. Next: [bold]{follow_up}[/]"))


@patch.command("publish")
@online_passphrase_option
@json_option
@click.pass_obj
def publish_command(session: Session, online_passphrase: Path | None, *, as_json: bool) -> None:
    """Publish what has all its signatures; a running coordinator begins the rollout at once."""
    with bad_input_exits():
        fleet = session.fleet()
        online = passphrase(online_passphrase, "online")
        with session.busy("publishing", quiet=as_json):
            released = publish_role(fleet, session.repository(), "patches", online, now=now())
            version = trio.run(poke_coordinator, fleet.control_socket)
    facts = {"published": [describe(manifest, state="published") for manifest in released], "served": version}

    def for_people() -> None:
        for manifest in released:
            session.console.print(f"published [bold]{manifest.product} {manifest.version}[/]")
        if not released:
            session.console.print("nothing was waiting")
        if version is None:
            session.console.print("No coordinator answers; it will begin the rollout when it runs: p2pctl serve")

    show(as_json, facts, for_people)


@patch.command("list")
@json_option
@click.pass_obj
def list_command(session: Session, *, as_json: bool) -> None:
    """List all releases: waiting for signatures, published, or withdrawn."""
    with bad_input_exits():
        releases = list_releases(session.repository())
    show(as_json, releases, lambda: list_for_people(session.console, releases))


@patch.command("show")
@click.argument("name")
@click.argument("version", required=False)
@json_option
@click.pass_obj
def show_command(session: Session, name: str, version: str | None, *, as_json: bool) -> None:
    """Show a release: NAME VERSION from the fleet, or NAME alone as the path of a manifest or torrent file."""
    from seeds.commands.patch_views import read_file

    with bad_input_exits():
        if version is None:
            facts, versions = read_file(Path(name)), dict[str, str]()
        else:
            facts, versions = _find(session.repository(), name, version), base_versions(session.repository(), name)
    for delta in facts.get("deltas", ()):
        delta["base_version"] = versions.get(delta["base"]["sha256"])

    def for_people() -> None:
        show_manifest(session.console, facts)
        show_transports(session.console, facts)

    show(as_json, facts, for_people)


@patch.command()
@click.argument("name")
@click.argument("version")
@click.option("--why", required=True, help="The reason, in words; it is signed and shown on every endpoint.")
@offline_passphrase_option
@online_passphrase_option
@json_option
@click.pass_obj
def withdraw(
    session: Session,
    name: str,
    version: str,
    why: str,
    offline_passphrase: Path | None,
    online_passphrase: Path | None,
    *,
    as_json: bool,
) -> None:
    """Recall a release for good: nobody installs it any more, and who has it goes back."""
    with bad_input_exits():
        fleet = session.fleet()
        repository = Repository(fleet.repository)
        secret, online = passphrase(offline_passphrase, "offline"), passphrase(online_passphrase, "online")
        recall = stage_recall(repository, name, version, why, now=now())
        sign_role(fleet, repository, "recalls", secret)
        publish_role(fleet, repository, "recalls", online, now=now())
        served = trio.run(poke_coordinator, fleet.control_socket)
    facts = {
        "product": name,
        "version": version,
        "manifest_sha256": recall.manifest_sha256,
        "why": why,
        "served": served,
    }
    show(as_json, facts, lambda: session.console.print(f"withdrawn: [bold]{escape(name)} {escape(version)}[/]"))


def _find(repository: Repository, name: str, version: str) -> dict[str, Any]:
    target = manifest_target(name, version)
    data = repository.read_target("patches", target)
    state = "published"
    if data is None and any(waiting.role == "patches" for waiting in repository.pending()):
        data, state = repository.read_pending("patches", target), "unsigned"
    if data is None:
        raise BadInput(f"{name} {version}", "there is no such release", "see `p2pctl patch list`")
    return describe(decode(Manifest, data, where=target), state=state)


def _authorities(fleet: Fleet) -> dict[str, bytes]:
    return {segment: fleet.read_segment_certificate(segment) for segment in fleet.config.segments}


def _applicability(systems: tuple[str, ...], machines: tuple[str, ...]) -> Applicability:
    return Applicability(
        systems=tuple(text.lower() for text in systems), machines=tuple(text.lower() for text in machines)
    )


def _requirement(text: str) -> Requirement:
    product, _, counter = text.partition(":")
    try:
        return Requirement(product=product, least_counter=int(counter or 0))
    except ValueError as problem:
        raise BadInput("--depends", str(problem), "write PRODUCT or PRODUCT:LEAST_COUNTER") from None


@contextmanager
def _progress(session: Session, *, quiet: bool) -> Iterator[Tell]:
    """One bar a stage."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=session.console, disable=quiet, transient=True) as bars:
        stages: dict[str, TaskID] = {}

        def tell(stage: str, done: int, total: int) -> None:
            if stage not in stages:
                stages[stage] = bars.add_task(stage, total=total)
            bars.update(stages[stage], completed=done, total=total)

        yield tell
