# SPDX-License-Identifier: Apache-2.0
"""Files that are whole or absent, whatever instant the power goes."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

from signing.errors import BadInput

READABLE_BY_ALL = 0o644  # signed public documents; keys are written elsewhere, with mode 0600
MOST_TOGETHER = 64  # files that are open at once

_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


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


def replace_together(files: Iterable[tuple[Path, bytes]], *, mode: int = READABLE_BY_ALL) -> None:
    """Replace each file in one step, as `replace_whole` does; a group of them is written before any is waited for.

    So the disk takes many small files in few turns. For directories with one writer: what is half written has a name
    that only depends on the file's, so that whatever a kill leaves of it is replaced the next time. Raises OSError, and
    has replaced some of the files then.
    """
    left = iter(files)
    while group := tuple(islice(left, MOST_TOGETHER)):
        _replace_group(group, mode)


def _replace_group(files: Sequence[tuple[Path, bytes]], mode: int) -> None:
    newest = dict(files)  # a file may be named twice
    unfinished: dict[Path, int] = {}
    try:
        for path, data in newest.items():
            part = unfinished_name(path)
            unfinished[part] = descriptor = os.open(part, _NEW, mode)
            os.fchmod(descriptor, mode)
            _write_all(descriptor, data)
        for descriptor in unfinished.values():
            os.fsync(descriptor)
        for path in newest:
            unfinished_name(path).replace(path)
    except BaseException:
        for part in unfinished:
            part.unlink(missing_ok=True)
        raise
    finally:
        for descriptor in unfinished.values():
            os.close(descriptor)


def unfinished_name(path: Path) -> Path:
    """Where `replace_together` writes: hidden, in the same directory, and short however long the file's own name is."""
    return path.with_name(f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}.part")


def _write_all(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


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
