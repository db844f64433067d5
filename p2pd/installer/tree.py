# SPDX-License-Identifier: Apache-2.0
"""Opening files and walking directories by descriptors, so that no symbolic link is followed and no path leaves."""

import contextlib
import errno
import io
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

_REGULAR = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe would wait for its writer
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
IMPLIED_MODE = 0o755  # of a directory that the payload uses and never names


def open_regular(path: str | Path, *, directory: int | None = None) -> io.FileIO:
    """Open a regular file, relative to the open `directory`. Raises OSError: ELOOP for a link, EINVAL for the rest."""
    descriptor = os.open(path, _REGULAR, dir_fd=directory)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return io.FileIO(descriptor, "rb")


class Tree:
    """Opens directories below `root`; keeps those on the way to the last one open, since archives are sorted.

    Raises OSError: NotADirectoryError or ELOOP where a part of the path is a link or a file.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._way: list[tuple[str, int]] = []

    def __enter__(self) -> Self:
        self._way = [("", os.open(self._root, _DIRECTORY))]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave(0)

    def directory(self, path: Sequence[str], *, create: bool = False) -> int:
        """Descriptor of the directory `path`, good until the next call; `create` makes what is missing."""
        shared = 0
        while shared < min(len(path), len(self._way) - 1) and self._way[shared + 1][0] == path[shared]:
            shared += 1
        self._leave(shared + 1)
        for part in path[shared:]:
            self._enter(part, create=create)
        return self._way[-1][1]

    def _enter(self, part: str, *, create: bool) -> None:
        parent, is_new = self._way[-1][1], False
        if create:
            with contextlib.suppress(FileExistsError):  # it is a directory, or opening it fails below
                os.mkdir(part, 0o700, dir_fd=parent)
                is_new = True
        self._way.append((part, os.open(part, _DIRECTORY, dir_fd=parent)))
        if is_new:
            os.fchmod(self._way[-1][1], IMPLIED_MODE)

    def _leave(self, depth: int) -> None:
        while len(self._way) > depth:
            os.close(self._way.pop()[1])
