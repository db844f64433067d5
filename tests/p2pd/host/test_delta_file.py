# SPDX-License-Identifier: Apache-2.0
"""The format of deltas: what was made makes the payload again, and what was not is refused before it costs anything."""

import hashlib
import io
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pd.host.delta_file import (
    MAGIC,
    MAX_PATCH_BYTES,
    STRETCH_BYTES,
    WINDOW_BYTES,
    DamagedDelta,
    Window,
    apply_patch,
    make_patch,
    pack,
    windows,
)
from signing.manifest import Content

OLD = random.Random(1).randbytes(5_000)  # noqa: S311 (content for tests)
NEW = OLD[:2_000] + b"something new" + OLD[2_100:]


def content(data: bytes) -> Content:
    return Content(sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def delta(*made: Window) -> io.BytesIO:
    return io.BytesIO(MAGIC + b"".join(map(pack, made)))


def window(old: bytes, new: bytes, offset: int = 0) -> Window:
    return Window(offset, len(old), len(new), make_patch(old, new))


def read(file: io.BytesIO, *, base: bytes = OLD, payload: bytes = NEW) -> bytes:
    found = windows(file, base=content(base), payload=content(payload))
    return b"".join(apply_patch(base[w.base_offset : w.base_offset + w.base_bytes], w) for w in found)


@given(old=st.binary(max_size=400), new=st.binary(min_size=1, max_size=400), cut=st.integers(1, 399))
@settings(max_examples=60, deadline=None)
def test_what_was_made_makes_the_payload_again(old: bytes, new: bytes, cut: int) -> None:
    parts = [part for part in (new[:cut], new[cut:]) if part]
    made = delta(*(window(old, part) for part in parts))
    base = Content(sha256=hashlib.sha256(old).hexdigest(), size=max(1, len(old)))
    found = windows(made, base=base, payload=content(new))
    assert b"".join(apply_patch(old[w.base_offset : w.base_offset + w.base_bytes], w) for w in found) == new


def test_the_same_input_gives_the_same_bytes_and_few_of_them() -> None:
    assert make_patch(OLD, NEW) == make_patch(OLD, NEW)
    assert len(make_patch(OLD, NEW)) < 200


def test_a_window_reads_its_own_stretch_only() -> None:
    assert read(delta(window(OLD[1_000:2_000], NEW[:500], 1_000), window(OLD, NEW[500:]))) == NEW


@pytest.mark.parametrize("length", [0, 5, len(MAGIC), len(MAGIC) + 3, len(MAGIC) + 20, -1])
def test_a_truncated_delta_is_refused(length: int) -> None:
    whole = delta(window(OLD, NEW)).getvalue()
    with pytest.raises(DamagedDelta):
        read(io.BytesIO(whole[:length]))


def huge(*, base_bytes: int = 10, offset: int = 0, new_bytes: int = 10, patch_bytes: int = 10) -> io.BytesIO:
    import struct

    return io.BytesIO(MAGIC + struct.pack(">QIII", offset, base_bytes, new_bytes, patch_bytes) + b"x" * 10)


@pytest.mark.parametrize(
    ("hostile", "words"),
    [
        (huge(base_bytes=STRETCH_BYTES + 1), "the base has"),
        (huge(base_bytes=len(OLD) + 1), "the base has"),
        (huge(offset=2**63), "the base has"),
        (huge(new_bytes=0), "the payload has"),
        (huge(new_bytes=len(NEW) + 1), "the payload has"),
        (huge(new_bytes=WINDOW_BYTES + 1), "the payload has"),
        (huge(patch_bytes=MAX_PATCH_BYTES + 1), "a patch of"),
        (huge(), "another format"),
        (delta(window(OLD, NEW), window(OLD, b"more")), "the payload has"),
        (delta(window(OLD, NEW[:-1])), "it makes"),
        (delta(), "it makes"),
    ],
)
def test_a_window_beyond_its_bounds_is_refused_before_the_library_sees_it(hostile: io.BytesIO, words: str) -> None:
    with pytest.raises(DamagedDelta, match=words):
        read(hostile)


def test_a_patch_that_expands_beyond_what_its_window_says_is_refused_unseen() -> None:
    """A small window header in front of a patch that would make a gigabyte."""
    bomb = make_patch(b"", bytes(1_000_000))
    assert len(bomb) < 1_000
    with pytest.raises(DamagedDelta, match="declares"):
        read(delta(Window(0, 0, len(NEW), bomb)))


def test_a_patch_for_another_stretch_is_refused_unseen() -> None:
    with pytest.raises(DamagedDelta, match="declares"):
        read(delta(Window(0, len(OLD) - 1, len(NEW), make_patch(OLD, NEW))))


def test_another_compression_is_refused_unseen() -> None:
    import hdiffpatch

    other = hdiffpatch.diff(OLD, NEW, "zlib")
    with pytest.raises(DamagedDelta, match="another format"):
        read(delta(Window(0, len(OLD), len(NEW), other)))


@pytest.mark.parametrize("head", [b"HDIFF13&lzma2\0", b"HDIFF13&lzma2\0" + b"\xff" * 40, b"HDIFF13&lzma2\0\x85"])
def test_a_header_that_never_ends_is_refused(head: bytes) -> None:
    with pytest.raises(DamagedDelta, match="truncated"):
        read(delta(Window(0, len(OLD), len(NEW), head)))


def test_sizes_beyond_the_bounds_are_no_window() -> None:
    with pytest.raises(ValueError, match="too large"):
        make_patch(b"", b"")
    with pytest.raises(ValueError, match="too large"):
        make_patch(bytes(STRETCH_BYTES + 1), b"x")
