# SPDX-License-Identifier: Apache-2.0
"""`p2pctl init`: a fleet from nothing, and an account of which key may do what."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
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
from seeds.config import Address
from signing.errors import BadInput
from signing.structure import flatten

if TYPE_CHECKING:
    from seeds.new_fleet import NewFleet


@click.command()
@click.option(
    "--name", "names", multiple=True, required=True, help="DNS name or address at which devices reach it; may repeat."
)
@click.option("--segment", "segments", multiple=True, default=("default",), show_default=True, help="May repeat.")
@click.option("--public", default="0.0.0.0:8443", show_default=True, help="Where signed files are served.")
@click.option("--agent", default="0.0.0.0:8444", show_default=True, help="Where devices report, with certificates.")
@click.option("--metrics", default="127.0.0.1:9464", show_default=True, help="Where Prometheus scrapes.")
@click.option("--release-keys", default=2, show_default=True, help="How many keys may sign patches …")
@click.option("--release-threshold", default=2, show_default=True, help="… and how many of them must.")
@click.option("--canary-percent", default=5.0, show_default=True, help="Share of devices in the canary ring …")
@click.option("--canary-at-least", default=1, show_default=True, help="… and the fewest, in small fleets.")
@click.option("--canary-soak", default=300.0, show_default=True, help="Seconds between its success and everyone.")
@offline_passphrase_option
@online_passphrase_option
@json_option
@click.pass_obj
def init(
    session: Session,
    names: tuple[str, ...],
    segments: tuple[str, ...],
    public: str,
    agent: str,
    metrics: str,
    release_keys: int,
    release_threshold: int,
    canary_percent: float,
    canary_at_least: int,
    canary_soak: float,
    offline_passphrase: Path | None,
    online_passphrase: Path | None,
    *,
    as_json: bool,
) -> None:
    """Make a fleet in the --fleet directory: keys, authorities, first policy, signed repository, configuration."""
    from seeds.new_fleet import FleetPlan, create_fleet

    with bad_input_exits():
        try:
            plan = FleetPlan(
                names=names,
                segments=segments,
                public=_address(public, "--public"),
                agent=_address(agent, "--agent"),
                metrics=_address(metrics, "--metrics"),
                release_keys=release_keys,
                release_threshold=release_threshold,
                canary_percent=canary_percent,
                canary_at_least=canary_at_least,
                canary_soak_seconds=canary_soak,
            )
            plan.first_policy()
        except ValueError as problem:
            raise BadInput("p2pctl init", str(problem)) from None
        offline = passphrase(offline_passphrase, "offline", confirm=True)
        online = passphrase(online_passphrase, "online", confirm=True)
        with session.busy("making keys, authorities and signed metadata", quiet=as_json):
            new = create_fleet(session.directory, plan, offline_passphrase=offline, online_passphrase=online, now=now())
    facts = {
        "directory": str(new.fleet.directory),
        "thresholds": dict(new.thresholds),
        "keys": [flatten(key) for key in new.keys],
    }
    show(as_json, facts, lambda: _account(session.console, new))


def _account(console: Console, new: "NewFleet") -> None:
    table = Table("key of", "needs", "kept", "whoever holds enough of them …", title="Which key may do what")
    for role in dict.fromkeys(key.role for key in new.keys):
        mine = [key for key in new.keys if key.role == role]
        place = "online" if mine[0].is_online else "offline"
        table.add_row(role, f"{new.thresholds[role]} of {len(mine)}", place, mine[0].power)
    console.print(table)
    console.print(f"\nThe fleet is in [bold]{new.fleet.directory}[/].")
    console.print("Now move [bold]keys/offline[/] to media that you lock away, and keep a copy elsewhere.")
    console.print("Then: [bold]p2pctl serve[/] · [bold]p2pctl enroll-token[/] · [bold]p2pctl patch build[/]")


def _address(text: str, option: str) -> Address:
    host, separator, port = text.rpartition(":")
    if not separator or not port.isdigit():
        raise BadInput(option, f"{text!r} is not an address", "write HOST:PORT")
    try:
        return Address(host=host.strip("[]"), port=int(port))
    except ValueError as problem:
        raise BadInput(option, str(problem)) from None
