# SPDX-License-Identifier: Apache-2.0
"""`p2pctl renew`: sign offline metadata anew before its life is over, with the same content and keys."""

from datetime import datetime
from pathlib import Path

import click
from rich.table import Table

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
from seeds.commands.publication import publish_role, sign_role
from seeds.services.publishing import poke_coordinator
from signing.errors import BadInput
from signing.repository import Repository
from signing.roles import OFFLINE


@click.command()
@click.option("--role", "roles", multiple=True, type=click.Choice(OFFLINE), help="May repeat.  [default: all offline]")
@offline_passphrase_option
@online_passphrase_option
@json_option
@click.pass_obj
def renew(
    session: Session,
    roles: tuple[str, ...],
    offline_passphrase: Path | None,
    online_passphrase: Path | None,
    *,
    as_json: bool,
) -> None:
    """Give the metadata of the offline roles a new life. Expired metadata blocks every new install."""
    with bad_input_exits():
        fleet, repository = session.fleet(), session.repository()
        chosen = roles or tuple(OFFLINE)
        _refuse_what_waits(repository, chosen)
        secret, online = passphrase(offline_passphrase, "offline"), passphrase(online_passphrase, "online")
        with session.busy("signing", quiet=as_json):
            for role in chosen:
                with repository.lock():
                    repository.stage(role, {}, now=now())
                sign_role(fleet, repository, role, secret)
                publish_role(fleet, repository, role, online, now=now())
        served = poke_coordinator(fleet.control_socket)
        expiries = {role: repository.expiries()[role] for role in chosen}
    facts = {"renewed": {role: expires.isoformat() for role, expires in expiries.items()}, "served": served}
    show(as_json, facts, lambda: session.console.print(_table(expiries)))


def _refuse_what_waits(repository: Repository, roles: tuple[str, ...]) -> None:
    """Signing anew must not carry out what somebody left half-signed."""
    waiting = sorted({version.role for version in repository.pending()} & set(roles))
    if waiting:
        raise BadInput(", ".join(waiting), "something else waits for signatures", "publish it first; that renews, too")


def _table(expiries: dict[str, datetime]) -> Table:
    table = Table("role", "good until")
    for role, expires in expiries.items():
        table.add_row(role, f"{expires:%Y-%m-%d %H:%M} UTC")
    return table
