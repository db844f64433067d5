# SPDX-License-Identifier: Apache-2.0
"""Where programs are: our own, beside this Python, and those of the system."""

import os
import shutil
import sys
from pathlib import Path

from signing.errors import BadInput

_BIN = Path(sys.executable).parent
_SYSTEM_PATHS = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def command(name: str, *arguments: str | Path) -> list[str]:
    """The argument list of one of our own programs, as installed."""
    return [str(_BIN / name), *map(str, arguments)]


def module(name: str, *arguments: str | Path) -> list[str]:
    """The argument list of one of our own modules that can be run."""
    return [sys.executable, "-m", name, *map(str, arguments)]


def find(program: str) -> str | None:
    """The path of a program of the system, which may be where only root looks; None if it is not there."""
    return shutil.which(program, path=_SYSTEM_PATHS)


def found(program: str) -> str:
    """The path of a program of the system. Raises BadInput when it is not there."""
    path = find(program)
    if path is None:
        raise BadInput(program, "is not installed", "install the Debian package that has it")
    return path
