# SPDX-License-Identifier: Apache-2.0
"""`p2pctl patch sign`, `publish` and `withdraw`: what a release goes through once it is built.

Seconds count between publishing and the fleet's hearing of it: what only other commands need is not loaded here.
"""

from pathlib import Path

import click
from rich.markup import escape

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
from seeds.commands.patch_views import describe
from seeds.commands.publication import publish_role, sign_role
from seeds.services.publishing import poke_coordinator, stage_recall
from seeds.signers import open_role_signer, open_signers
from signing.errors import BadInput
from signing.repository import Repository


@click.command()
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


@click.command("publish")
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
            version = poke_coordinator(fleet.control_socket)
    facts = {"published": [describe(manifest, state="published") for manifest in released], "served": version}

    def for_people() -> None:
        for manifest in released:
            session.console.print(f"published [bold]{manifest.product} {manifest.version}[/]")
        if not released:
            session.console.print("nothing was waiting")
        if version is None:
            session.console.print("No coordinator answers; it will begin the rollout when it runs: p2pctl serve")

    show(as_json, facts, for_people)


@click.command()
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
        served = poke_coordinator(fleet.control_socket)
    facts = {
        "product": name,
        "version": version,
        "manifest_sha256": recall.manifest_sha256,
        "why": why,
        "served": served,
    }
    show(as_json, facts, lambda: session.console.print(f"withdrawn: [bold]{escape(name)} {escape(version)}[/]"))
