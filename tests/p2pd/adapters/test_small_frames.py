# SPDX-License-Identifier: Apache-2.0
"""What endpoints say to each other about small payloads, and what no honest one says."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pd.adapters.small_frames import FrameReader, pack_payloads, pack_wanted, read_wanted
from p2pd.ports_small import MAX_WANTED
from signing.errors import BadInput
from signing.manifest import SMALL_BYTES

payloads = st.dictionaries(st.binary(min_size=32, max_size=32).map(bytes.hex), st.binary(min_size=1, max_size=300))


@given(payloads, st.integers(1, 50))
def test_what_is_packed_is_read_whatever_the_chunks(found: dict[str, bytes], chunk: int) -> None:
    reader, data = FrameReader({sha256: len(payload) for sha256, payload in found.items()}), pack_payloads(found)
    for start in range(0, len(data), chunk):
        reader.feed(data[start : start + chunk])
    assert reader.payloads == found
    assert reader.is_whole


@given(st.lists(st.binary(min_size=32, max_size=32).map(bytes.hex), min_size=1, max_size=20))
def test_questions_come_over_whole(digests: list[str]) -> None:
    assert read_wanted(pack_wanted(digests)) == digests


@given(st.binary(max_size=500))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    reader = FrameReader({"ab" * 32: 5})
    try:
        reader.feed(data)
    except BadInput:
        return
    assert len(data) <= 36 + 5


@pytest.mark.parametrize("length", [0, 31, 33, (MAX_WANTED + 1) * 32])
def test_questions_of_another_length_are_refused(length: int) -> None:
    with pytest.raises(BadInput):
        read_wanted(bytes(length))


def hostile(sha256: str, data: bytes, *, length: int | None = None) -> bytes:
    return bytes.fromhex(sha256) + (len(data) if length is None else length).to_bytes(4) + data


@pytest.mark.parametrize(
    "answer",
    [
        hostile("cd" * 32, b"hello"),
        hostile("ab" * 32, b"hello!"),
        hostile("ab" * 32, b"hell"),
        hostile("ab" * 32, b"", length=2**32 - 1),
        hostile("ab" * 32, b"hello") * 2,
    ],
    ids=["not asked for", "longer", "shorter", "endless", "twice"],
)
def test_an_answer_that_no_honest_peer_gives_is_refused(answer: bytes) -> None:
    with pytest.raises(BadInput):
        FrameReader({"ab" * 32: 5}).feed(answer)


def test_nothing_is_kept_beyond_what_was_asked_for() -> None:
    data = bytes(SMALL_BYTES + 1)
    sha256 = hashlib.sha256(data).hexdigest()
    with pytest.raises(BadInput):
        FrameReader({sha256: len(data)}).feed(hostile(sha256, data))


def test_a_half_answer_is_not_whole() -> None:
    reader = FrameReader({"ab" * 32: 5})
    reader.feed(hostile("ab" * 32, b"hello")[:-1])
    assert not reader.is_whole
    assert reader.payloads == {}
