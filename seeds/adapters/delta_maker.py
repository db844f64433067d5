# SPDX-License-Identifier: Apache-2.0
"""Makes delta files between two payloads, window by window: see `p2pd.host.delta_file` for the format.

Each window of the new payload is compared with one stretch of the old one. If the old one is not larger than a stretch,
that is all of it; else the stretch is found by names: payloads are tars in order of paths, so what a window holds lies
in the old one where members of the same names lie. The same two payloads give the same delta on any machine.

Synchronous; measured on one core: 4 s for each 32 MiB of the new payload, and 400 MB of memory whatever its size.
"""

import hashlib
import os
import statistics
import tarfile
from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path

import zstandard

from p2pd.host.atomic_file import sync_directory
from p2pd.host.delta_file import MAGIC, MAX_PAYLOAD_BYTES, STRETCH_BYTES, WINDOW_BYTES, Window, make_patch, pack
from seeds.adapters.sources.scratch import writing_below
from signing.errors import BadInput, ContentMismatch
from signing.manifest import Content

CHUNK_BYTES = 1 << 20
MAX_FRAME_WINDOW_BYTES = 1 << 27
_UNFINISHED = ".delta"


class NoDelta(Exception):
    """A delta between these payloads is not worth having, or would cost too much; the message says why."""


def unpack(transport: Path, payload: Content, into: Path) -> None:
    """Decompress a full transport into the new file `into`. Raises ContentMismatch unless it makes `payload`."""
    digest, left = hashlib.sha256(), payload.size
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_FRAME_WINDOW_BYTES)
    try:
        with transport.open("rb") as file, into.open("xb") as target, decompressor.stream_reader(file) as frame:
            while left and (chunk := frame.read(min(left, CHUNK_BYTES))):
                digest.update(chunk)
                target.write(chunk)
                left -= len(chunk)
            is_whole = not left and not frame.read(1)
    except OSError as problem:
        raise BadInput(str(problem.filename or transport), f"{problem.strerror}") from None
    except zstandard.ZstdError as problem:
        raise BadInput(str(transport), f"cannot be decompressed ({problem})") from None
    if not is_whole or digest.hexdigest() != payload.sha256:
        raise ContentMismatch(str(transport), expected=f"payload {payload.sha256}", actual="another one")


def check_sizes(base: Content, new: Content) -> None:
    """Raise NoDelta for payloads that would take too long."""
    for payload, name in ((base, "the base"), (new, "the new payload")):
        if payload.size > MAX_PAYLOAD_BYTES:
            raise NoDelta(f"{name} has {payload.size} bytes, deltas are made up to {MAX_PAYLOAD_BYTES}")


def make_delta(
    base: Path,
    new: Path,
    into: Path,
    *,
    most_bytes: int,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Content:
    """Put the delta that makes the payload `new` out of the payload `base` durably at `into/<SHA-256>`.

    Raises NoDelta as soon as it has more than `most_bytes`, and BadInput for files that cannot be read or written.
    """
    unfinished = into / _UNFINISHED
    digest, size = hashlib.sha256(MAGIC), len(MAGIC)
    with writing_below(into), base.open("rb") as old, new.open("rb") as fresh, unfinished.open("wb") as target:
        stretches = _Stretches(base, new)
        target.write(MAGIC)
        total, made = os.fstat(fresh.fileno()).st_size, 0
        while data := fresh.read(WINDOW_BYTES):
            offset, length = stretches.find(made, len(data))
            patch = make_patch(os.pread(old.fileno(), length, offset), data)
            packed = pack(Window(offset, length, len(data), patch))
            digest.update(packed)
            target.write(packed)
            made, size = made + len(data), size + len(packed)
            progress(made, total)
            if size > most_bytes:
                raise NoDelta(f"more than {most_bytes} bytes after {made} of {total}: too little is the same")
        target.flush()
        os.fchmod(target.fileno(), 0o644)
        os.fsync(target.fileno())
    content = Content(sha256=digest.hexdigest(), size=size)
    with writing_below(into):
        unfinished.replace(into / content.sha256)
        sync_directory(into)
    return content


class _Stretches:
    """Which part of the base each window is compared with."""

    def __init__(self, base: Path, new: Path) -> None:
        self._size = base.stat().st_size
        self._shift = 0.0  # from a place in the new payload to where the same lies in the base
        self._old: dict[str, int] = {}
        self._names: list[str] = []
        self._starts: list[int] = []
        if self._size > STRETCH_BYTES:
            self._old = dict(_members(base))
            for name, offset in _members(new):
                self._names.append(name)
                self._starts.append(offset)

    def find(self, start: int, length: int) -> tuple[int, int]:
        """Offset and length of the stretch for the window at `start`."""
        if self._size <= STRETCH_BYTES:
            return 0, self._size
        # The member that the window begins in, and those that begin within it.
        first = max(0, bisect_left(self._starts, start + 1) - 1)
        last = bisect_left(self._starts, start + length)
        shifts = [
            self._old[name] - begin
            for name, begin in zip(self._names[first:last], self._starts[first:last], strict=True)
            if name in self._old
        ]
        if shifts:
            self._shift = statistics.median_low(shifts)
        middle = start + length // 2 + self._shift
        offset = min(max(0, int(middle) - STRETCH_BYTES // 2), self._size - STRETCH_BYTES)
        return offset, STRETCH_BYTES


def _members(payload: Path) -> list[tuple[str, int]]:
    """Name and offset of each member, in order."""
    found = []
    try:
        with tarfile.open(payload, mode="r:", encoding="utf-8") as archive:
            while (member := archive.next()) is not None:
                found.append((member.name, member.offset))
                archive.members.clear()  # type: ignore[attr-defined]  # it would keep them all; unknown to typeshed
    except tarfile.TarError as problem:
        raise BadInput(str(payload), f"is not a readable tar ({problem})") from None
    return found
