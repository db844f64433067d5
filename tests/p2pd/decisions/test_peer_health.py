# SPDX-License-Identifier: Apache-2.0
"""Strikes and bans: they grow, they end, and nobody is judged slow while bytes come."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from p2pd.decisions.peer_health import (
    CRAWL_BYTES_PER_S,
    FIRST_BAN_SECONDS,
    FORGIVEN_AFTER_SECONDS,
    GOOD_AFTER_SECONDS,
    LONGEST_BAN_SECONDS,
    Delivery,
    Health,
    drips,
    is_banned,
    is_forgiven,
    struck,
)
from signing.reasons import Reason

REASONS = st.sampled_from(sorted(FIRST_BAN_SECONDS))


@given(REASONS, st.integers(2, 200))
def test_each_ban_is_longer_up_to_a_limit(reason: Reason, count: int) -> None:
    now, health, lengths = 0.0, None, []
    for _ in range(count):
        health = struck(health, reason, now=now)
        lengths.append(health.banned_until - now)
        assert is_banned(health, now=now)
        assert not is_banned(health, now=health.banned_until)
        now = health.banned_until + 1.0
    assert lengths[0] == FIRST_BAN_SECONDS[reason]
    assert all(before < after or after == LONGEST_BAN_SECONDS for before, after in pairwise(lengths))
    assert max(lengths) <= LONGEST_BAN_SECONDS


@given(st.lists(st.tuples(REASONS, st.floats(0.0, 100.0)), min_size=1, max_size=40))
def test_a_lesser_strike_never_ends_a_ban_early(strikes: list[tuple[Reason, float]]) -> None:
    now = 0.0
    health: Health | None = None
    for reason, pause in strikes:
        before, health = health, struck(health, reason, now=now)
        assert is_banned(health, now=now)
        if before is not None and FIRST_BAN_SECONDS[reason] < FIRST_BAN_SECONDS[before.reason]:
            assert health.banned_until >= before.banned_until or not is_banned(before, now=now)
        now += pause


def test_an_old_strike_does_not_count() -> None:
    old = Health(strikes=9, reason=Reason.PEER_SLOW, banned_until=100.0)
    assert struck(old, Reason.PEER_SLOW, now=100.0 + FORGIVEN_AFTER_SECONDS).strikes == 1
    assert struck(old, Reason.PEER_SLOW, now=99.0 + FORGIVEN_AFTER_SECONDS).strikes == 10


def test_who_stays_connected_has_made_good_for_a_lost_link_but_not_for_wrong_data() -> None:
    for reason, forgiven in ((Reason.PEER_LOST, True), (Reason.PEER_UNREACHABLE, True), (Reason.PEER_CORRUPT, False)):
        health = struck(None, reason, now=0.0)
        since = health.banned_until
        assert not is_forgiven(health, connected_since=since, now=since + GOOD_AFTER_SECONDS - 1)
        assert is_forgiven(health, connected_since=since, now=since + GOOD_AFTER_SECONDS) is forgiven
        assert not is_forgiven(health, connected_since=None, now=since + GOOD_AFTER_SECONDS)
        assert not is_forgiven(health, connected_since=-1_000.0, now=since - 0.1), "not while the ban lasts"
        assert is_forgiven(health, connected_since=None, now=since + FORGIVEN_AFTER_SECONDS)


def test_a_drip_is_found_once_nothing_else_comes() -> None:
    drip = Delivery(offers_missing=True, bytes_in=CRAWL_BYTES_PER_S)
    idle = Delivery(offers_missing=False, bytes_in=0)
    busy = Delivery(offers_missing=True, bytes_in=100 * CRAWL_BYTES_PER_S)
    assert drips({"drip": drip, "idle": idle}, seconds=16.0, gained=CRAWL_BYTES_PER_S) == {"drip"}
    gained = drip.bytes_in + busy.bytes_in
    assert drips({"drip": drip, "idle": idle, "busy": busy}, seconds=16.0, gained=gained) == frozenset()
