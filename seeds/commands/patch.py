# SPDX-License-Identifier: Apache-2.0
"""`p2pctl patch`: build, sign, publish, list, show and withdraw releases."""

import click

from seeds.commands.lazy_group import LazyGroup

_COMMANDS = {
    "build": "seeds.commands.patch_build:build",
    "sign": "seeds.commands.patch_release:sign",
    "publish": "seeds.commands.patch_release:publish_command",
    "list": "seeds.commands.patch_list:list_command",
    "show": "seeds.commands.patch_list:show_command",
    "withdraw": "seeds.commands.patch_release:withdraw",
}


@click.command(cls=LazyGroup, where=_COMMANDS)
def patch() -> None:
    """Build, sign, publish, list, show and withdraw patches."""
