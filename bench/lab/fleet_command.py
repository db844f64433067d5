# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.lab fleet`: one release through a real fleet in a topology, watched, and all taken down again."""

import json
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import trio
from rich.console import Console
from rich.live import Live
from rich.table import Table

from bench.lab.administrator import Release, Template
from bench.lab.endpoint import LabEndpoint
from bench.lab.fleet import LabFleet
from bench.lab.happenings import USAGE, Happening, check_happenings, happen_in_time
from bench.lab.network import Network, build
from bench.lab.processes import ProcessFailed, open_processes
from bench.lab.signalled import run_unless_signalled
from bench.lab.sizes import Size
from bench.lab.topology import Topology
from p2pd.host.exception_groups import first_of_group
from signing.errors import SigningError

REDRAWS_PER_SECOND = 2.0


def fleet_command(topology: Callable[..., Any]) -> click.Command:
    """The subcommand; `topology` is the decorator of its argument."""

    @click.command("fleet")
    @topology
    @click.option("--size", type=Size(), default="64MB", show_default=True, help="Of the payload.")
    @click.option("--seconds", default=300.0, show_default=True, help="When to give up waiting.")
    @click.option("--install", is_flag=True, help="Let every endpoint install, instead of keeping the payload only.")
    @click.option(
        "--at",
        "happenings",
        type=(float, str),
        multiple=True,
        metavar="SECONDS LINE",
        help=f"What happens then, counted from the publication: {USAGE}.",
    )
    @click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
    def fleet(
        topology: Topology,
        size: int,
        seconds: float,
        happenings: Sequence[tuple[float, str]],
        *,
        install: bool,
        as_json: bool,
    ) -> None:
        """Publish a patch to a coordinator and an agent on every host of TOPOLOGY; show how it arrives."""
        planned = [Happening(seconds=when, line=line) for when, line in happenings]
        try:
            answer = _run(topology, size, seconds, planned, install=install, show=not as_json)
        except* (SigningError, ProcessFailed) as problems:
            raise click.ClickException(str(first_of_group(problems))) from None
        click.echo(json.dumps(answer, indent=2) if as_json else _in_words(answer))
        if not answer["complete"]:
            raise SystemExit(1)

    return fleet


def _run(
    topology: Topology, size: int, seconds: float, happenings: Sequence[Happening], *, install: bool, show: bool
) -> dict[str, Any]:
    with build(topology) as network, tempfile.TemporaryDirectory(prefix="p2pd-fleet-") as name:
        check_happenings(happenings, network)
        template = Template(Path(name), network.origin.address)
        release = template.release("1.0", 1, size)
        directory = Path(name) / "run"
        directory.mkdir()
        main = partial(_publish, network, template, release, directory, seconds, happenings, install, show)
        return run_unless_signalled(main)


async def _publish(
    network: Network,
    template: Template,
    release: Release,
    directory: Path,
    seconds: float,
    happenings: Sequence[Happening],
    install: bool,
    show: bool,
) -> dict[str, Any]:
    told: list[str] = []
    left_out = [name for happening in happenings if (name := happening.joins) is not None]
    async with open_processes() as processes:
        fleet = LabFleet(network, template, directory, processes, installing=install, left_out=left_out)
        await fleet.start()
        fleet.administrator.prepare(release)
        before = network.link_bytes()
        console = Console(stderr=True, quiet=not show)
        with Live(console=console, refresh_per_second=REDRAWS_PER_SECOND, transient=True) as live:
            began = await fleet.publish(release)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(happen_in_time, happenings, fleet, told)
                draw = partial(_draw, live, fleet, release, began, told)
                is_complete = await fleet.arrived(release, seconds=seconds, on_look=draw)
                nursery.cancel_scope.cancel()
        after = network.link_bytes()
        return {
            "complete": is_complete,
            "payload_bytes": release.size,
            "seconds": {endpoint.name: _seconds(endpoint, release, began) for endpoint in fleet.endpoints},
            "happened": told,
            "link_bytes": {
                name: {"up": count.up - before[name].up, "down": count.down - before[name].down}
                for name, count in after.items()
            },
        }


def _seconds(endpoint: LabEndpoint, release: Release, began: float) -> float | None:
    verified = endpoint.verified.get(release.version)
    return None if verified is None else round(verified.unix - began, 3)


def _draw(live: Live, fleet: LabFleet, release: Release, began: float, told: Sequence[str]) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("endpoint", "on disk", ""):
        table.add_column(heading)
    for endpoint in fleet.endpoints:
        seconds = _seconds(endpoint, release, began)
        state = f"verified after {seconds:.1f} s" if seconds is not None else "" if endpoint.is_alive else "not running"
        table.add_row(endpoint.name, f"{endpoint.on_disk(release) / release.size:4.0%}", state)
    for line in told:
        table.add_row("", "", line)
    live.update(table)


def _in_words(answer: dict[str, Any]) -> str:
    seconds = answer["seconds"].items()
    lines = [f"{name}: " + ("not verified" if took is None else f"{took:.2f} s") for name, took in seconds]
    lines += answer["happened"]
    links = answer["link_bytes"].items()
    lines += [
        f"{name}: {count['up'] / 1e6:.1f} MB up, {count['down'] / 1e6:.1f} MB down"
        for name, count in links
        if not any(name == host for host in answer["seconds"])  # the origin's and the WANs; hosts' own are many
    ]
    return "\n".join(lines)
