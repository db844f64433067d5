# SPDX-License-Identifier: Apache-2.0
"""Many targets in one answer: what goes in comes out, in bounds, and nonsense is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signing.errors import BadInput
from signing.many_targets import MAX_ANSWER_BYTES, MAX_TARGET_BYTES, pack, unpack


@given(contents=st.lists(st.one_of(st.none(), st.binary(max_size=300)), max_size=20))
def test_what_goes_in_comes_out(contents: list[bytes | None]) -> None:
    assert unpack(pack(contents), most=len(contents)) == [content or b"" for content in contents]


def test_an_answer_ends_before_it_is_too_large() -> None:
    answer = pack([b"x" * MAX_TARGET_BYTES] * 40)
    assert len(answer) <= MAX_ANSWER_BYTES
    assert len(unpack(answer, most=40)) == 15


@pytest.mark.parametrize(
    "answer",
    [b"\0", b"\0\0\0\5abc", b"\xff\xff\xff\xff", (MAX_TARGET_BYTES + 1).to_bytes(4) + b"x" * (MAX_TARGET_BYTES + 1)],
)
def test_nonsense_is_refused(answer: bytes) -> None:
    with pytest.raises(BadInput):
        unpack(answer, most=9)


def test_more_than_was_asked_for_is_refused() -> None:
    with pytest.raises(BadInput):
        unpack(pack([b"a", b"b"]), most=1)
