# SPDX-License-Identifier: Apache-2.0
"""The TXT record: what is written is read, and anything else is refused by ValueError alone."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pd.adapters.mdns_text import MAX_TEXT_BYTES, read_text, write_text
from p2pd.ports import MAX_TAGS

tag_sets = st.frozensets(st.binary(min_size=8, max_size=8), max_size=MAX_TAGS)


def strings(*values: bytes) -> bytes:
    return b"".join(bytes([len(value)]) + value for value in values)


@given(st.integers(0, 65535), tag_sets)
def test_what_is_written_is_read(mirror_port: int, tags: frozenset[bytes]) -> None:
    text = write_text(mirror_port, tags)
    assert len(text) <= MAX_TEXT_BYTES
    assert read_text(text) == (mirror_port, tags)


@given(st.binary(max_size=MAX_TEXT_BYTES + 9))
def test_noise_is_refused_or_read_but_nothing_else(text: bytes) -> None:
    with contextlib.suppress(ValueError):
        _, tags = read_text(text)
        assert len(tags) <= MAX_TAGS


@given(tag_sets, st.data())
def test_bent_records_are_refused_or_read_but_nothing_else(tags: frozenset[bytes], data: st.DataObject) -> None:
    text = bytearray(write_text(9, tags))
    text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ValueError):
        mirror_port, _ = read_text(bytes(text))
        assert 0 <= mirror_port <= 65535


def test_saying_the_same_twice_makes_two_different_packets() -> None:
    assert write_text(1, frozenset()) != write_text(1, frozenset())


def test_keys_of_later_versions_are_ignored_and_the_first_of_a_key_counts() -> None:
    text = strings(b"v=1", b"novel=x", b"flag", b"m=10", b"m=11", b"t0=abcdefgh")
    assert read_text(text) == (10, frozenset({b"abcdefgh"}))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"", "version None"),
        (strings(b"v=2", b"t0=abcdefgh"), "version b'2'"),
        (strings(b"v=1", b"t0=abcdefg"), "not a multiple"),
        (strings(b"v=1", b"m=65536"), "no port"),
        (strings(b"v=1", b"m=-1"), "no port"),
        (strings(b"v=1", b"m=\xc2\xb2"), "no port"),
        (strings(b"v=1", b"m="), "no port"),
        (strings(b"v=1") + b"\xffshort", "runs past"),
        (strings(b"v=1", *[b"x" * 250] * 6), "more than"),
    ],
)
def test_what_is_not_ours_is_refused(text: bytes, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        read_text(text)
