# SPDX-License-Identifier: Apache-2.0
"""`p2pctl`: what administrators do with a fleet. Bad input exits with 2, other failures with 1."""

import importlib
from pathlib import Path

import click

from seeds.commands.context import Session

# The module and attribute of each command: loaded when asked for, since libraries for all of them take a second.
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


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command


@click.command(cls=_LazyGroup)
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
