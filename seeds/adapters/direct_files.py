# SPDX-License-Identifier: Apache-2.0
"""Regular files below served directories, with no symbolic link on the way to them."""

import os
import stat
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import trio

_MAX_KNOWN = 4_096  # names that are remembered; a few hundred bytes each


class DirectFile(NamedTuple):
    """Where a regular file lies, and what it is."""

    path: Path
    facts: os.stat_result


class DirectFiles:
    """Finds files, and remembers them for as long as their names lead to the very same ones, unchanged."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[Path, str], DirectFile] = OrderedDict()

    async def find(self, root: Path, name: str) -> DirectFile | None:
        """The file `name` below `root`; None when there is none, or a link leads to it."""
        known = self._known.get((root, name))
        if known is not None and _is_still(known):
            self._known.move_to_end((root, name))
            return known
        found = await trio.to_thread.run_sync(direct_file, root, name)
        if found is None:
            self._known.pop((root, name), None)
            return None
        self._known[root, name] = found
        if len(self._known) > _MAX_KNOWN:
            self._known.popitem(last=False)
        return found


def direct_file(root: Path, name: str) -> DirectFile | None:
    """As `DirectFiles.find`; it may wait for the disk."""
    real_root = os.path.realpath(root)
    path = os.path.join(real_root, name)  # noqa: PTH118 (realpath, its counterpart below, speaks strings)
    try:
        facts = os.lstat(path)
        is_direct = os.path.realpath(path, strict=True) == path
    except (OSError, ValueError):
        return None
    return DirectFile(Path(path), facts) if is_direct and stat.S_ISREG(facts.st_mode) else None


def _is_still(known: DirectFile) -> bool:
    # This waits for no disk but when the kernel has forgotten a name that was looked up lately.
    try:
        facts = os.lstat(known.path)
    except OSError:
        return False
    return _identity(facts) == _identity(known.facts)


def _identity(facts: os.stat_result) -> tuple[int, ...]:
    return facts.st_dev, facts.st_ino, facts.st_mode, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns
