# SPDX-License-Identifier: Apache-2.0
"""Who may enrol, who may come back, and which of two reasons is given first."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seeds.decisions.enrolment_rules import RENEWAL_SLACK_SECONDS, is_repeat, judge_enrolment, judge_renewal
from seeds.records import Device, Token
from signing.reasons import Reason
from signing.schedule import MAX_MEMBERS

NOW = 1_000_000
TOKEN = Token(secret_sha256="a" * 64, segment="office", site="paris", root_version=1, expires_at=NOW + 60, uses_left=1)
KNOWN = Device(
    device="pc-1",
    segment="office",
    site="paris",
    public_pem=b"key",
    token_sha256="b" * 64,
    enrolled_at=1,
    certificate_expires=NOW,
)


def judge(
    token: Token | None = TOKEN,
    known: Device | None = None,
    *,
    public_pem: bytes = b"key",
    site_members: int = 0,
    now: int = NOW,
) -> Reason | None:
    return judge_enrolment(token, known, device="pc-1", public_pem=public_pem, site_members=site_members, now=now)


def test_a_good_token_enrols_a_new_device() -> None:
    assert judge() is None


def test_each_defect_has_its_reason() -> None:
    assert judge(None) is Reason.TOKEN_UNKNOWN
    assert judge(now=NOW + 60) is Reason.TOKEN_EXPIRED
    assert judge(replace(TOKEN, uses_left=0)) is Reason.TOKEN_USED
    assert judge(replace(TOKEN, device="pc-2")) is Reason.TOKEN_OTHER_DEVICE
    assert judge(known=KNOWN, public_pem=b"other") is Reason.DEVICE_NAME_TAKEN
    assert judge(site_members=MAX_MEMBERS) is Reason.SITE_FULL


def test_a_token_for_a_name_may_replace_its_key() -> None:
    assert judge(replace(TOKEN, device="pc-1"), KNOWN, public_pem=b"other") is None


def test_a_device_may_come_back_with_its_own_key_and_another_token() -> None:
    assert judge(known=KNOWN) is None


def test_a_lost_answer_is_given_again_until_the_token_expires() -> None:
    spent = replace(TOKEN, uses_left=0)
    mine = replace(KNOWN, token_sha256=TOKEN.secret_sha256)
    assert judge(spent, mine) is None
    assert is_repeat(spent, mine, b"key")
    assert judge(spent, mine, public_pem=b"other") is Reason.TOKEN_USED
    assert judge(spent, mine, now=NOW + 60) is Reason.TOKEN_EXPIRED
    assert judge(spent, mine, site_members=MAX_MEMBERS) is None


def test_a_member_of_a_full_site_may_stay() -> None:
    assert judge(known=KNOWN, site_members=MAX_MEMBERS) is None
    assert judge(known=replace(KNOWN, site="rome"), site_members=MAX_MEMBERS) is Reason.SITE_FULL


@given(
    uses_left=st.integers(0, 2),
    expires_in=st.integers(-10, 10),
    named=st.sampled_from([None, "pc-1", "pc-2"]),
    known=st.sampled_from([None, KNOWN, replace(KNOWN, token_sha256=TOKEN.secret_sha256)]),
    public_pem=st.sampled_from([b"key", b"other"]),
)
def test_nothing_but_a_live_token_with_a_use_left_lets_a_new_key_in(
    uses_left: int, expires_in: int, named: str | None, known: Device | None, public_pem: bytes
) -> None:
    token = replace(TOKEN, uses_left=uses_left, expires_at=NOW + expires_in, device=named)
    is_new_key = known is None or known.public_pem != public_pem
    if judge(token, known, public_pem=public_pem) is None:
        assert expires_in > 0
        assert named != "pc-2"
        assert uses_left > 0 or is_repeat(token, known, public_pem)
        assert not is_new_key or known is None or named == "pc-1"


@pytest.mark.parametrize(
    ("asked_at", "now", "reason"),
    [
        (NOW, NOW, None),
        (NOW + 90 * 86_400, NOW + 90 * 86_400, None),  # to the last second of the grace
        (NOW + 90 * 86_400 + 1, NOW + 90 * 86_400 + 1, Reason.CERTIFICATE_EXPIRED),
        (NOW - RENEWAL_SLACK_SECONDS, NOW, None),
        (NOW - RENEWAL_SLACK_SECONDS - 1, NOW, Reason.CLOCK_SKEWED),
        (NOW + RENEWAL_SLACK_SECONDS + 1, NOW, Reason.CLOCK_SKEWED),
    ],
)
def test_a_certificate_is_renewed_within_its_grace(asked_at: int, now: int, reason: Reason | None) -> None:
    assert judge_renewal(KNOWN, asked_at=asked_at, grace_seconds=90 * 86_400, now=now) is reason
