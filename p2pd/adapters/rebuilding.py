# SPDX-License-Identifier: Apache-2.0
"""Applies one delta, file by file, and hashes all that goes in and all that comes out. Synchronous.

The files lie in the daemon's own directory. Each is opened once, never through a link, and used by that descriptor
alone, so that what was hashed is what is read; a base whose bytes somebody changes meanwhile makes a wrong result,
which is noticed by its SHA-256 and thrown away.
"""

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

import zstandard

from p2pd.host.atomic_file import sync_directory
from p2pd.host.delta_file import DamagedDelta, Window, apply_patch, windows
from p2pd.ports_delta import Base, Rebuild, RebuildFailed
from signing.manifest import Content
from signing.reasons import Reason

CHUNK_BYTES = 1 << 20
MAX_WINDOW_BYTES = 1 << 27  # of zstd frames, as p2pd-install has it
_NEW = ".new-"


def rebuild(work: Rebuild) -> None:
    """See `p2pd.ports_delta.Rebuilder`. Raises RebuildFailed, and OSError as the kernel gives it."""
    work.result.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for leftover in work.result.parent.glob(f"{_NEW}*"):  # of a process that was killed
        leftover.unlink()
    with _opened_delta(work) as delta, _opened_base(work.base, work.result.parent) as base:
        descriptor, name = tempfile.mkstemp(prefix=_NEW, dir=work.result.parent)
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as result:
                _apply(delta, base, result, work)
                result.flush()
                os.fsync(result.fileno())
            temporary.replace(work.result)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    sync_directory(work.result.parent)


def _apply(delta: BinaryIO, base: BinaryIO, result: BinaryIO, work: Rebuild) -> None:
    digest = hashlib.sha256()
    try:
        for window in windows(delta, base=work.base.content, payload=work.payload):
            _apply_one(window, base, result, digest)
    except DamagedDelta as problem:
        raise RebuildFailed(Reason.DELTA_FAILED, f"{work.delta}: {problem}") from None
    if digest.hexdigest() != work.payload.sha256:
        message = f"the result has SHA-256 {digest.hexdigest()}, the signed payload {work.payload.sha256}"
        raise RebuildFailed(Reason.DELTA_FAILED, message)


def _apply_one(window: Window, base: BinaryIO, result: BinaryIO, digest: "hashlib._Hash") -> None:
    # A function of its own, so that what one window took is given back before the next one takes as much.
    made = apply_patch(os.pread(base.fileno(), window.base_bytes, window.base_offset), window)
    digest.update(made)
    result.write(made)


@contextmanager
def _opened_delta(work: Rebuild) -> Iterator[BinaryIO]:
    with _opened(work.delta, Reason.DELTA_FAILED) as delta:
        found = _measured(delta, work.delta_content.size)
        if found != work.delta_content:
            message = f"{work.delta} is not the delta that was signed ({work.delta_content.sha256})"
            raise RebuildFailed(Reason.DELTA_FAILED, message)
        delta.seek(0)
        yield delta


@contextmanager
def _opened_base(base: Base, scratch: Path) -> Iterator[BinaryIO]:
    """The payload to build upon, uncompressed and verified."""
    with _opened(base.path, Reason.DELTA_BASE_DIFFERS) as file:
        if not base.is_compressed:
            _check_base(_measured(file, base.content.size), base)
            yield file
            return
        with tempfile.TemporaryFile(dir=scratch) as unpacked:  # it has no name, so nothing of it outlives us
            _check_base(_unpack(file, unpacked, base.content.size), base)
            unpacked.flush()
            yield unpacked


def _check_base(found: Content | None, base: Base) -> None:
    if found != base.content:
        message = f"{base.path} is not the payload that the delta was made for ({base.content.sha256})"
        raise RebuildFailed(Reason.DELTA_BASE_DIFFERS, message)


@contextmanager
def _opened(path: Path, reason: Reason) -> Iterator[BufferedReader]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as problem:
        raise RebuildFailed(reason, f"{path} cannot be opened ({problem.strerror})") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise RebuildFailed(reason, f"{path} is not a regular file")
    with os.fdopen(descriptor, "rb") as file:
        yield file


def _measured(file: BufferedReader, size: int) -> Content | None:
    """What `file` holds; None when it is not of that size."""
    if os.fstat(file.fileno()).st_size != size:
        return None
    return Content(sha256=hashlib.file_digest(file, "sha256").hexdigest(), size=size)


def _unpack(file: BinaryIO, into: BinaryIO, size: int) -> Content | None:
    """Decompress at most `size` bytes; None when there are fewer or more."""
    digest, left = hashlib.sha256(), size
    frame = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).stream_reader(file, closefd=False)
    try:
        while left and (chunk := frame.read(min(left, CHUNK_BYTES))):
            digest.update(chunk)
            into.write(chunk)
            left -= len(chunk)
        is_whole = not left and not frame.read(1)
    except zstandard.ZstdError:
        return None
    return Content(sha256=digest.hexdigest(), size=size) if is_whole else None
