# SPDX-License-Identifier: Apache-2.0
"""TOML files that people write, to frozen dataclasses, strictly: every mistake is named with its file and key."""

import tomllib
from pathlib import Path
from typing import TypeVar

from p2pd.host.atomic_file import read_bounded
from signing.errors import BadInput
from signing.structure import build

MAX_CONFIG_BYTES = 1_048_576

T = TypeVar("T")


def load_config(cls: type[T], path: Path) -> T:
    """Read `path` into a `cls`, a dataclass with annotations that `signing.structure` knows.

    Raises BadInput for all that can be wrong: no such file, unreadable, too large, not TOML (with the line), an
    unknown key (with the nearest valid one), a wrong type or value.
    """
    where = str(path)
    try:
        data = read_bounded(path, MAX_CONFIG_BYTES)
    except FileNotFoundError:
        raise BadInput(where, "does not exist", "create it, or name another with --config") from None
    except OSError as problem:
        raise BadInput(where, f"cannot be read ({problem.strerror})") from problem
    try:
        table = tomllib.loads(data.decode())
    except UnicodeDecodeError as problem:
        raise BadInput(where, f"is not UTF-8 at byte {problem.start}", "save it as UTF-8") from None
    except (ValueError, RecursionError) as problem:  # a number of 5,000 digits is a plain ValueError
        raise BadInput(where, f"is not valid TOML: {problem}") from None
    return build(cls, table, where=where)
