# SPDX-License-Identifier: Apache-2.0
"""`p2pctl patch build`: makes a release of files, ready to be signed."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from seeds.commands.context import Session, bad_input_exits, json_option, now, show
from seeds.commands.delta_options import delta_options, show_outcomes, wanted_bases
from seeds.commands.health_options import health_options, health_plan
from seeds.commands.patch_views import describe, show_manifest
from seeds.commands.publication import shelf_of
from seeds.fleet import Fleet
from seeds.services.building import PatchWish, build_patch
from seeds.services.building import Progress as Tell
from seeds.services.deltas import add_deltas
from seeds.services.publishing import next_counter, stage_patch
from signing.errors import BadInput
from signing.manifest import Applicability, Requirement, Severity
from signing.repository import Repository


@click.command()
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
