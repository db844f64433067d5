# SPDX-License-Identifier: Apache-2.0
"""`p2pctl`: what administrators do with a fleet. Bad input exits with 2, other failures with 1."""

from pathlib import Path

import click

from seeds.commands.context import Session
from seeds.commands.lazy_group import LazyGroup

_COMMANDS = {
    "init": "seeds.commands.init:init",
    "patch": "seeds.commands.patch:patch",
    "rollout": "seeds.commands.rollout:rollout",
    "device": "seeds.commands.device:device",
    "policy": "seeds.commands.fleet_commands:policy",
    "renew": "seeds.commands.renew:renew",
    "enroll-token": "seeds.commands.fleet_commands:enroll_token",
    "serve": "seeds.commands.fleet_commands:serve",
    "status": "seeds.commands.fleet_commands:status",
    "demo": "seeds.commands.demo:demo",
}


@click.command(cls=LazyGroup, where=_COMMANDS)
@click.option(
    "--fleet",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("fleet"),
    show_default=True,
    envvar="P2PCTL_FLEET",
    help="The fleet's directory. [env: P2PCTL_FLEET]",
)
@click.version_option(package_name="p2pd")
@click.pass_context
def main(ctx: click.Context, directory: Path) -> None:
    """Peer-to-peer patch distribution: pack, sign, publish and roll out patches."""
    ctx.obj = Session(directory=directory)


if __name__ == "__main__":
    main()
