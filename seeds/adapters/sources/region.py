# SPDX-License-Identifier: Apache-2.0
"""Reading archives by position: a part of an open file, and the bounded file that stdlib's parsers get to see."""

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from seeds.adapters.sources.refusals import changed, reading
from signing.errors import BadInput

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Fingerprint:
    """What changes when somebody writes to a file, or puts another in its place."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, facts: os.stat_result) -> "Fingerprint":
        """The fingerprint of what was just looked at."""
        return cls(facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)


class Region:
    """`size` bytes from `start` of the open file `descriptor`; `where` names it in errors.

    Several readers may use one region, also from several threads: there is no shared position.
    """

    def __init__(self, descriptor: int, start: int, size: int, *, where: str) -> None:
        self._descriptor = descriptor
        self._start = start
        self.size = size
        self.where = where

    def read_at(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes from `offset`, fewer only at the end of the region. Raises BadInput."""
        count = max(0, min(count, self.size - offset))
        parts = []
        while count > 0:
            with reading(self.where):
                part = os.pread(self._descriptor, count, self._start + offset)
            if not part:
                raise changed(self.where)
            parts.append(part)
            offset, count = offset + len(part), count - len(part)
        return b"".join(parts)

    def chunks(self, offset: int, count: int) -> Iterator[bytes]:
        """`count` bytes from `offset` in chunks. Raises BadInput if the region ends before."""
        if not 0 <= offset <= offset + count <= self.size:
            raise BadInput(self.where, "ends in the middle of a member: truncated?", "fetch it again")
        while count > 0:
            chunk = self.read_at(offset, min(count, CHUNK_BYTES))
            yield chunk
            offset, count = offset + len(chunk), count - len(chunk)

    def part(self, offset: int, size: int) -> "Region":
        """The region of `size` bytes from `offset` of this one. Raises BadInput if it is not inside."""
        if not 0 <= offset <= offset + size <= self.size:
            raise BadInput(self.where, "ends in the middle of a member: truncated?", "fetch it again")
        return Region(self._descriptor, self._start + offset, size, where=self.where)


@contextmanager
def open_file(path: Path) -> Iterator[Region]:
    """The whole regular file at `path`. Raises BadInput, also when it has changed by the time the block ends well."""
    where = str(path)
    with reading(where):
        # O_NONBLOCK: opening a named pipe without a writer would otherwise wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise BadInput(where, "is neither a directory nor a regular file", "name a directory or an archive")
        yield Region(descriptor, 0, facts.st_size, where=where)
        if Fingerprint.of(os.fstat(descriptor)) != Fingerprint.of(facts):
            raise changed(where)
    finally:
        os.close(descriptor)


class OverBudget(Exception):
    """A parser asked for more bytes than its input can honestly need."""


class MeteredReader(io.RawIOBase):
    """A region as a file for stdlib's archive parsers, which read as much as a header tells them to in one go.

    `allow` says how many bytes the next step may take; OverBudget is raised before more are read or allocated.
    """

    def __init__(self, region: Region) -> None:
        super().__init__()
        self._region = region
        self._position = 0
        self._budget = 0

    def allow(self, budget: int) -> None:
        """Let the next step read `budget` bytes."""
        self._budget = budget

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes; -1 is all that are left. Raises OverBudget, also for any other negative size."""
        if size == -1:
            size = max(0, self._region.size - self._position)
        if not 0 <= size <= self._budget:
            raise OverBudget
        data = self._region.read_at(self._position, size)
        self._budget -= len(data)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move, to before the end or beyond it; not to before the beginning."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._region.size}[whence]
        if origin + offset < 0:
            raise OSError("position before the beginning")
        self._position = origin + offset
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position

    def seekable(self) -> bool:
        """Whether `seek` works: always."""
        return True

    def readable(self) -> bool:
        """Whether `read` works: always."""
        return True
