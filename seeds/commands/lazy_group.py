# SPDX-License-Identifier: Apache-2.0
"""A group of commands whose modules are loaded when one is asked for: libraries for all of them take a second."""

import importlib
from collections.abc import Mapping
from typing import Any

import click


class LazyGroup(click.Group):
    """`where` names `module:attribute` of each command, in the order of the help."""

    def __init__(self, *args: Any, where: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._where = where

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names."""
        return list(self._where)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, loaded now."""
        if cmd_name not in self._where:
            return None
        module, _, attribute = self._where[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command
