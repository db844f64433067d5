# SPDX-License-Identifier: Apache-2.0
"""The format of deltas: a payload in windows, each an HDiffPatch patch of a stretch of another payload.

    magic · (window header · patch)*        and nothing after the last window

A window header says which stretch of the base the patch was made for, and how many bytes it makes. Windows are what
bounds memory, whatever the payload's size: HDiffPatch's binding takes and gives whole `bytes`, so applying needs one
stretch, one window twice, and the patch; making one needs about ten bytes for each of the stretch (its suffix array).

A patch is HDiffPatch's compressed format with one codec (LZMA2, no dictionary above 8 MiB). What it declares is read
and compared with the window header before the library sees it. The library (38 MB) is loaded when it is first needed:
a daemon that only asks another process to apply deltas never does.
"""

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from signing.manifest import Content

MAGIC = b"p2pd delta 1\n"
WINDOW_BYTES = 32 * 2**20  # of the new payload; measured: applying takes 160 MB of memory then
STRETCH_BYTES = 64 * 2**20  # of the base
MAX_PATCH_BYTES = WINDOW_BYTES  # a window that compresses no better is not worth a delta
MAX_PAYLOAD_BYTES = 4 * 2**30  # of either payload: 128 windows, about ten minutes of building
_HEADER = struct.Struct(">QIII")
_PATCH_HEAD = b"HDIFF13&lzma2\0"
_MAX_NUMBER_BYTES = 10


class DamagedDelta(Exception):
    """These bytes are no delta, or not one for this base and this payload."""


class Window(NamedTuple):
    """One window: `patch` makes `new_bytes` out of the base's `base_bytes` from `base_offset` on."""

    base_offset: int
    base_bytes: int
    new_bytes: int
    patch: bytes


def make_patch(stretch: bytes, new: bytes) -> bytes:
    """The patch that makes `new` out of `stretch`, tried out; the same input gives the same bytes."""
    if len(stretch) > STRETCH_BYTES or not 1 <= len(new) <= WINDOW_BYTES:
        raise ValueError(f"a window of {len(new)} bytes from {len(stretch)} is too large")
    from hdiffpatch import Lzma2Config, diff

    # One thread: with more, the bytes would depend on chance.
    return diff(stretch, new, Lzma2Config(level=9, window=23, threads=1), validate=True)


def pack(window: Window) -> bytes:
    """The bytes of one window in a delta file."""
    return _HEADER.pack(window.base_offset, window.base_bytes, window.new_bytes, len(window.patch)) + window.patch


def windows(delta: BinaryIO, *, base: Content, payload: Content) -> Iterator[Window]:
    """The windows of a delta file, each within bounds; together they make exactly the payload's size.

    Raises DamagedDelta as soon as one reaches beyond `base` or makes more than `payload`, before anything is allocated.
    """
    if delta.read(len(MAGIC)) != MAGIC:
        raise DamagedDelta("it does not begin like a delta")
    made = 0
    while header := delta.read(_HEADER.size):
        if len(header) < _HEADER.size:
            raise DamagedDelta("it is truncated")
        offset, base_bytes, new_bytes, patch_bytes = _HEADER.unpack(header)
        if base_bytes > STRETCH_BYTES or offset + base_bytes > base.size:
            raise DamagedDelta(f"a window is made from {base_bytes} bytes at {offset}; the base has {base.size}")
        if not 1 <= new_bytes <= min(WINDOW_BYTES, payload.size - made):
            raise DamagedDelta(f"a window makes {new_bytes} bytes at {made}; the payload has {payload.size}")
        if patch_bytes > MAX_PATCH_BYTES:
            raise DamagedDelta(f"a window has a patch of {patch_bytes} bytes, at most {MAX_PATCH_BYTES}")
        patch = delta.read(patch_bytes)
        if len(patch) < patch_bytes:
            raise DamagedDelta("it is truncated")
        made += new_bytes
        yield Window(offset, base_bytes, new_bytes, patch)
    if made != payload.size:
        raise DamagedDelta(f"it makes {made} bytes; the payload has {payload.size}")


def apply_patch(stretch: bytes, window: Window) -> bytes:
    """The window's bytes. Raises DamagedDelta; the library allocates what was compared with the header first."""
    from hdiffpatch import HDiffPatchError, apply

    declared = _declared_sizes(window.patch)
    if declared != (window.new_bytes, window.base_bytes) or len(stretch) != window.base_bytes:
        raise DamagedDelta(f"a patch declares {declared}, its window {(window.new_bytes, window.base_bytes)}")
    try:
        made = apply(stretch, window.patch)
    except (HDiffPatchError, MemoryError) as problem:
        raise DamagedDelta(f"a patch cannot be applied ({problem})") from None
    if len(made) != window.new_bytes:
        raise DamagedDelta(f"a patch makes {len(made)} bytes in place of {window.new_bytes}")
    return made


def _declared_sizes(patch: bytes) -> tuple[int, int]:
    """New and old size as HDiffPatch's header has them: base 128, most significant digit first."""
    if not patch.startswith(_PATCH_HEAD):
        raise DamagedDelta("a patch has another format or compression")
    new, position = _number(patch, len(_PATCH_HEAD))
    old, _ = _number(patch, position)
    return new, old


def _number(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for index in range(position, min(position + _MAX_NUMBER_BYTES, len(data))):
        value = value << 7 | data[index] & 0x7F
        if data[index] < 0x80:
            return value, index + 1
    raise DamagedDelta("a patch is truncated")
