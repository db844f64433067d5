# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.lab`: look at a topology, let it stand, or run a command in it. Bad input exits with 2, else with 1.

All that it builds is taken down when it ends, by Ctrl-C and SIGTERM too.
"""

import signal
import subprocess
import sys
from pathlib import Path

import click

from bench.lab import changes
from bench.lab.commands import LabError
from bench.lab.fleet_command import fleet_command
from bench.lab.network import Host, Network, build
from bench.lab.showing import described, what_it_would_be
from bench.lab.topology import EXAMPLES, Topology, load_topology
from signing.errors import BadInput


def _read(_: click.Context, __: click.Parameter, value: str) -> Topology:
    """The topology in a file, or the example of that name."""
    examples = {path.stem: path for path in sorted(EXAMPLES.glob("*.toml"))}
    path = examples.get(value, Path(value))
    if not path.exists():
        raise click.BadParameter(f"there is no file {value}; write one, or take an example: {', '.join(examples)}")
    try:
        return load_topology(path)
    except BadInput as error:
        raise click.BadParameter(str(error)) from error


TOPOLOGY = click.argument("topology", callback=_read)


@click.group()
def main() -> None:
    """Hosts, sites and links inside this machine. TOPOLOGY is a TOML file, or the name of an example."""


@main.command()
@TOPOLOGY
def show(topology: Topology) -> None:
    """Show what a topology would be; builds nothing, and needs no root."""
    click.echo(what_it_would_be(topology))


@main.command()
@TOPOLOGY
def up(topology: Topology) -> None:
    """Build a topology and let it stand until Ctrl-C, with its links at the command of standard input."""
    with build(topology) as network:
        click.echo(described(network))
        click.echo(changes.USAGE)
        for line in sys.stdin:
            if answer := changes.obey(line, network):
                click.echo(answer)
        signal.pause()  # nobody is there to type, or not any more


@main.command(context_settings={"ignore_unknown_options": True})
@TOPOLOGY
@click.option("--on", "on", default="origin", show_default=True, help="The name of the host to run it on.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(topology: Topology, on: str, command: tuple[str, ...]) -> None:
    """Build a topology, run COMMAND on one of its hosts, and exit as COMMAND did."""
    with build(topology) as network:
        done = subprocess.run(_host(network, on).argv(command), check=False)
    raise SystemExit(done.returncode if done.returncode >= 0 else 128 - done.returncode)


main.add_command(fleet_command(TOPOLOGY))


def _host(network: Network, name: str) -> Host:
    for host in network.hosts:
        if host.name == name:
            return host
    raise click.BadParameter(
        f"there is no host {name!r}; there are {', '.join(host.name for host in network.hosts)}", param_hint="--on"
    )


if __name__ == "__main__":
    try:
        main()
    except LabError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(1) from None
