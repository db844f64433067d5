# SPDX-License-Identifier: Apache-2.0
"""Files that are whole or absent, whatever instant the power goes."""

import contextlib
import os
import tempfile
from pathlib import Path

from signing.errors import BadInput

READABLE_BY_ALL = 0o644  # signed public documents; keys are written elsewhere, with mode 0600


def write_durably(path: Path, data: bytes, *, mode: int = READABLE_BY_ALL) -> None:
    """Replace `path` by `data` in one step that has reached the disk on return. Raises OSError."""
    replace_whole(path, data, mode=mode)
    flush(path.parent)


def replace_whole(path: Path, data: bytes, *, mode: int = READABLE_BY_ALL) -> None:
    """Replace `path` by `data` in one step. Until its directory is flushed, a power cut may bring back what was there.

    Raises OSError.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
        raise


def flush(path: Path) -> None:
    """Wait until the file or directory `path` has reached the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_at_most(path: Path, max_bytes: int) -> bytes:
    """The content of `path`. Raises BadInput when it is larger than `max_bytes`, and OSError."""
    with path.open("rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise BadInput(str(path), f"is larger than {max_bytes} bytes")
    return data
