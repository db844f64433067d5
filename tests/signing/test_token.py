# SPDX-License-Identifier: Apache-2.0
"""Tokens survive copy and paste, and a damaged one is noticed before it is used."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signing.errors import BadInput
from signing.token import EnrolmentToken

TOKEN = EnrolmentToken(url="https://seeds.example:8443", ca_sha256="a" * 64, root_sha256="b" * 64, secret="s" * 43)


def test_a_token_comes_back_from_its_text() -> None:
    assert EnrolmentToken.decode(f"  {TOKEN.encode()}\n") == TOKEN


@given(st.integers(min_value=0, max_value=len(TOKEN.encode()) - 1))
def test_a_token_that_lost_its_end_is_refused(length: int) -> None:
    with pytest.raises(BadInput, match="copy it whole"):
        EnrolmentToken.decode(TOKEN.encode()[:length])


@given(st.integers(min_value=6, max_value=len(TOKEN.encode()) - 2), st.sampled_from("ABCdef012_-"))
def test_a_token_with_a_wrong_character_is_refused(position: int, character: str) -> None:
    text = TOKEN.encode()
    if text[position] == character:
        character = "z"
    with pytest.raises(BadInput):
        EnrolmentToken.decode(text[:position] + character + text[position + 1 :])


def test_the_refusal_never_repeats_the_secret() -> None:
    with pytest.raises(BadInput) as refusal:
        EnrolmentToken.decode(TOKEN.encode()[:-5])
    assert TOKEN.encode()[10:30] not in str(refusal.value)


@pytest.mark.parametrize("url", ["http://seeds.example", "seeds.example", "https://"])
def test_a_coordinator_is_reached_by_https_only(url: str) -> None:
    with pytest.raises(ValueError, match="https://"):
        EnrolmentToken(url=url, ca_sha256="a" * 64, root_sha256="b" * 64, secret="s" * 43)
