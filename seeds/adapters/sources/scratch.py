# SPDX-License-Identifier: Apache-2.0
"""Files that a build writes: unnamed ones that vanish with the process however that ends, and errors in our words.

Nothing is buffered in between, so a full disk shows where it is written to and not again where a file is closed.
"""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seeds.adapters.sources.refusals import DiskFull
from signing.errors import BadInput

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def writing_below(directory: Path) -> Iterator[None]:
    """Turn the operating system's errors of the block, which writes files below `directory`, into ours."""
    try:
        yield
    except OSError as problem:
        if problem.errno in _NO_SPACE:
            raise DiskFull(str(directory), "no space left", "free some space or choose another directory") from problem
        remedy = "choose a directory that you may write to"
        raise BadInput(str(directory), f"cannot be written to ({problem.strerror})", remedy) from problem


@contextmanager
def unnamed_file(directory: Path) -> Iterator[int]:
    """The descriptor of an empty file without a name on the file system of `directory`, while the block lasts."""
    with writing_below(directory):
        file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115 (closed below)
    with file:
        yield file.fileno()


def write_all(descriptor: int, data: bytes, directory: Path) -> None:
    """Write `data` to the open file below `directory`. Raises DiskFull or BadInput."""
    view = memoryview(data)
    with writing_below(directory):
        while view:
            view = view[os.write(descriptor, view) :]
