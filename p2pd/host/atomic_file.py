# SPDX-License-Identifier: Apache-2.0
"""Files that are whole or not there, whenever the power goes; and reads that cannot exhaust memory.

Both raise OSError as the kernel gives it: what a missing file or a full disk means is the caller's to say.
"""

import os
import stat
import tempfile
from pathlib import Path

from signing.errors import BadInput


def write_atomically(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Put `data` at `path` with permissions `mode`, replacing what was there; durable when this returns.

    A reader sees the old bytes or the new ones, never a part, and so does whoever comes after a crash. A kill in the
    middle may leave one `.tmp-…` file behind.
    """
    descriptor, temporary = tempfile.mkstemp(prefix=".tmp-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)  # noqa: PTH105 (mkstemp gives a str)
    except BaseException:
        os.unlink(temporary)  # noqa: PTH108 (mkstemp gives a str)
        raise
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make creations, renames and removals inside `directory` durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """Return the bytes of the regular file at `path`. Raises BadInput if it is larger, or no regular file."""
    # O_NONBLOCK: opening a named pipe without a writer would otherwise wait for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise BadInput(str(path), "is not a regular file")
        if facts.st_size > max_bytes:
            raise BadInput(str(path), f"is {facts.st_size} bytes, at most {max_bytes} are allowed")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(max_bytes + 1)
    finally:
        os.close(descriptor)
    if len(data) > max_bytes:  # it grew between the two looks
        raise BadInput(str(path), f"is more than {max_bytes} bytes, which is the most allowed")
    return data
