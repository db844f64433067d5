# SPDX-License-Identifier: Apache-2.0
"""Who fetches from the origin: every endpoint decides alone, and nobody is left without bytes."""

import math
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pd.decisions.ambassadors import (
    IN_FLIGHT_SECONDS,
    IN_FLIGHT_SHARE,
    LEAST_AMBASSADORS,
    MOST_AMBASSADORS,
    Fetch,
    SiteView,
    Timing,
    Wait,
    ambassador_count,
    decide_role,
    is_stalled,
    peers_are_trusted,
    rank,
)
from signing.reasons import Reason
from signing.schedule import Member, SiteRates

DEVICES = st.lists(st.from_regex(r"[a-z]{1,6}", fullmatch=True), min_size=1, max_size=12, unique=True)
INFO_HASHES = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
TIMING = Timing(settle=2.0, stall=8.0)


def view(
    me: str,
    ranked: tuple[str, ...],
    *,
    connected: frozenset[str] = frozenset(),
    expected: Mapping[str, float] = MappingProxyType({}),
    carriers: frozenset[str] = frozenset(),
    whole: frozenset[str] = frozenset(),
    listening_since: float = 0.0,
    began: float = 0.0,
    last_progress: float = 0.0,
    aside: frozenset[str] = frozenset(),
    barred: Reason | None = None,
) -> SiteView:
    return SiteView(
        me=me,
        ranked=ranked,
        connected=connected,
        expected=expected,
        carriers=carriers,
        whole=whole,
        listening_since=listening_since,
        began=began,
        last_progress=last_progress,
        aside=aside,
        barred=barred,
    )


@given(INFO_HASHES, DEVICES, st.randoms())
def test_the_order_does_not_depend_on_how_members_are_listed(
    info_hash: str, devices: list[str], random: object
) -> None:
    members = [Member(device=device) for device in devices]
    shuffled = sorted(members, key=lambda member: hash((member.device, id(random))))
    assert rank(info_hash, members) == rank(info_hash, shuffled)


@given(INFO_HASHES, DEVICES, st.data())
def test_a_death_moves_nobody_else(info_hash: str, devices: list[str], data: st.DataObject) -> None:
    dead = data.draw(st.sampled_from(devices))
    before = rank(info_hash, [Member(device=device) for device in devices])
    after = rank(info_hash, [Member(device=device) for device in devices if device != dead])
    assert after == tuple(device for device in before if device != dead)


def test_a_member_of_three_times_the_weight_comes_first_three_times_as_often() -> None:
    members = [Member(device="heavy", weight=3.0), Member(device="light", weight=1.0)]
    first = Counter(rank(f"{n:064x}", members)[0] for n in range(4_000))
    assert math.isclose(first["heavy"] / 4_000, 0.75, abs_tol=0.03)


def test_the_first_in_rank_fetches_at_once_when_it_sees_all_others() -> None:
    assert decide_role(view("a", ("a", "b"), connected=frozenset("b")), now=0.0, timing=TIMING) == Fetch(
        ambassadors=("a",)
    )


def test_before_discovery_settles_nobody_concludes_that_it_is_alone() -> None:
    assert decide_role(view("b", ("a", "b")), now=1.9, timing=TIMING) == Wait(
        until=2.0, reason=Reason.DISCOVERY_SETTLING
    )
    alone = decide_role(view("b", ("a", "b")), now=2.0, timing=TIMING)
    assert alone == Fetch(ambassadors=("b",), reason=Reason.AMBASSADORS_UNSEEN)  # going to the origin is never silent


def test_the_second_waits_for_a_live_first_and_steps_in_when_nothing_moves() -> None:
    second = view("b", ("a", "b"), connected=frozenset("a"), last_progress=10.0)
    assert decide_role(second, now=17.9, timing=TIMING) == Wait(until=18.0, reason=Reason.WAITING_FOR_AMBASSADOR)
    assert decide_role(second, now=18.0, timing=TIMING) == Fetch(ambassadors=("b",), reason=Reason.TOOK_OVER_STALLED)


def test_who_knows_its_lan_already_does_not_wait_for_handshakes() -> None:
    """All that are on the LAN are expected, so that they divide the pieces alike from the first moment."""
    fresh = view("b", ("a", "b"), expected={"a": 14.0}, listening_since=0.0, began=10.0, last_progress=10.0)
    assert decide_role(fresh, now=10.0, timing=TIMING, ambassador_count=2) == Fetch(ambassadors=("a", "b"))


@pytest.mark.parametrize(
    ("connected", "whole", "must_wait"),
    [
        ("", "", True),  # whoever had it before may have something
        ("c", "", False),  # and this is what one of them has
        ("c", "a", True),  # c came late as well; a has everything
        ("a", "a", False),
    ],
)
def test_a_late_joiner_hears_those_out_who_may_have_it(connected: str, whole: str, *, must_wait: bool) -> None:
    late = view(
        "b",
        ("a", "b", "c"),
        connected=frozenset(connected),
        expected={device: 20.0 for device in "ac" if device not in connected},
        carriers=frozenset("ac") - frozenset(connected),
        whole=frozenset(whole),
        listening_since=0.0,
        began=10.0,
        last_progress=10.0,
    )
    role = decide_role(late, now=10.0, timing=TIMING, ambassador_count=3)
    assert (role == Wait(until=12.0, reason=Reason.DISCOVERY_SETTLING)) is must_wait
    assert isinstance(decide_role(late, now=12.0, timing=TIMING, ambassador_count=3), Fetch)


def test_an_ambassador_with_nothing_left_steps_in_for_silent_ones_in_rank() -> None:
    first = view("a", tuple("abc"), connected=frozenset("bc"), last_progress=10.0)
    third = view("c", tuple("abc"), connected=frozenset("ab"), last_progress=10.0)
    assert [is_stalled(seen, now=25.9, timing=TIMING) for seen in (first, third)] == [False, False]
    assert [is_stalled(seen, now=26.0, timing=TIMING) for seen in (first, third)] == [True, False]
    assert is_stalled(third, now=42.0, timing=TIMING)


def test_who_counts_on_an_announcement_looks_again_when_it_is_stale() -> None:
    second = view("b", ("a", "b"), expected={"a": 12.5}, last_progress=10.0)
    assert decide_role(second, now=11.0, timing=TIMING) == Wait(until=12.5, reason=Reason.WAITING_FOR_AMBASSADOR)
    last = view("b", ("a", "b"), expected={"a": 30.0}, last_progress=10.0)
    assert decide_role(last, now=11.0, timing=TIMING) == Wait(until=18.0, reason=Reason.WAITING_FOR_AMBASSADOR)


def test_those_further_back_wait_longer_so_that_one_at_a_time_steps_in() -> None:
    everyone = frozenset("abcd")
    turns = []
    for device in "bcd":
        role = decide_role(
            view(device, tuple("abcd"), connected=everyone - {device}, last_progress=10.0), now=10.0, timing=TIMING
        )
        assert isinstance(role, Wait)
        turns.append(role.until)
    assert turns == [18.0, 26.0, 34.0]


@given(DEVICES, st.data(), st.floats(min_value=2.0, max_value=1e6), st.integers(min_value=1, max_value=4))
def test_while_anyone_lives_someone_fetches_sooner_or_later(
    devices: list[str], data: st.DataObject, last_progress: float, fetching: int
) -> None:
    """Live devices that all see each other: the first ones fetch at once, and after a long silence everyone may."""
    ranked = tuple(devices)
    alive = data.draw(st.lists(st.sampled_from(devices), min_size=1, unique=True))
    fetchers = []
    for me in alive:
        seen = view(me, ranked, connected=frozenset(alive) - {me}, last_progress=last_progress)
        role = decide_role(seen, now=last_progress, timing=TIMING, ambassador_count=fetching)
        if isinstance(role, Fetch):
            fetchers.append(me)
            assert set(role.ambassadors) <= set(alive)
        late = last_progress + TIMING.stall * len(devices) + 1
        assert isinstance(decide_role(seen, now=late, timing=TIMING, ambassador_count=fetching), Fetch)
    in_rank = [device for device in ranked if device in alive]
    assert sorted(fetchers) == sorted(in_rank[:fetching])


def test_nobody_waits_for_one_who_stands_aside() -> None:
    second = view("b", tuple("abc"), connected=frozenset("ac"), last_progress=10.0, aside=frozenset("a"))
    assert decide_role(second, now=10.0, timing=TIMING) == Fetch(ambassadors=("b",))
    third = view("c", tuple("abc"), connected=frozenset("ab"), last_progress=10.0, aside=frozenset("a"))
    assert decide_role(third, now=10.0, timing=TIMING) == Wait(until=18.0, reason=Reason.WAITING_FOR_AMBASSADOR)


def test_one_who_is_barred_waits_for_others_and_then_says_why() -> None:
    barred = view(
        "a",
        tuple("ab"),
        connected=frozenset("b"),
        last_progress=10.0,
        aside=frozenset("a"),
        barred=Reason.LINK_METERED,
    )
    assert decide_role(barred, now=17.9, timing=TIMING) == Wait(until=18.0, reason=Reason.WAITING_FOR_AMBASSADOR)
    assert decide_role(barred, now=18.0, timing=TIMING) == Wait(until=math.inf, reason=Reason.LINK_METERED)
    alone = view("a", ("a",), aside=frozenset("a"), barred=Reason.LINK_VPN)
    assert decide_role(alone, now=2.0, timing=TIMING) == Wait(until=math.inf, reason=Reason.LINK_VPN)


def test_who_may_fetch_and_not_upload_leaves_it_to_others_and_helps_itself_when_there_are_none() -> None:
    alone = view("a", ("a",), aside=frozenset("a"))
    assert decide_role(alone, now=2.0, timing=TIMING) == Fetch(ambassadors=("a",))
    beside = view("a", tuple("ab"), connected=frozenset("b"), last_progress=10.0, aside=frozenset("a"))
    assert decide_role(beside, now=10.0, timing=TIMING) == Wait(until=18.0, reason=Reason.WAITING_FOR_AMBASSADOR)
    assert decide_role(beside, now=18.0, timing=TIMING) == Fetch(ambassadors=("a",), reason=Reason.TOOK_OVER_STALLED)


@given(DEVICES, st.data(), st.integers(min_value=1, max_value=4))
def test_those_who_stand_aside_change_nothing_for_the_others(
    devices: list[str], data: st.DataObject, fetching: int
) -> None:
    """All that see each other divide among those who may fetch, as if the rest were not there."""
    barred = frozenset(data.draw(st.lists(st.sampled_from(devices), unique=True)))
    open_to_all = tuple(device for device in devices if device not in barred)
    for me in devices:
        why = Reason.LINK_METERED if me in barred else None
        site = view(
            me, tuple(devices), connected=frozenset(devices) - {me}, last_progress=10.0, aside=barred, barred=why
        )
        role = decide_role(site, now=10.0, timing=TIMING, ambassador_count=fetching)
        if me in open_to_all[:fetching]:
            assert role == Fetch(ambassadors=open_to_all[:fetching])
        else:
            assert isinstance(role, Wait)
        late = decide_role(site, now=10.0 + 9 * len(devices), timing=TIMING, ambassador_count=fetching)
        assert isinstance(late, Wait) is (me in barred)


@given(st.floats(min_value=0, max_value=1e6), st.floats(min_value=0, max_value=1e3))
def test_a_peer_that_offers_and_does_not_send_is_trusted_for_two_stalls(last_gain: float, waited: float) -> None:
    now = last_gain + waited
    trusted = peers_are_trusted(last_gain=last_gain, pace=math.inf, offered_bytes=10**9, now=now, timing=TIMING)
    assert trusted is (now - last_gain < 16.0)


def test_a_drip_is_not_taken_for_a_transfer() -> None:
    """A block a second would keep a site from the origin for a day; a slow LAN, or the last piece, is no drip."""

    def trusted(pace: float, offered_bytes: int) -> bool:
        return peers_are_trusted(last_gain=10.0, pace=pace, offered_bytes=offered_bytes, now=10.0, timing=TIMING)

    assert not trusted(16_384, 64_000_000)
    assert trusted(50_000, 64_000_000)
    assert trusted(16_384, 262_144)


RATES = st.builds(
    SiteRates,
    wan_bytes_per_s=st.integers(min_value=1_000, max_value=10**9),
    lan_bytes_per_s=st.integers(min_value=1_000, max_value=10**10),
    rtt_seconds=st.none(),
)


@given(st.integers(min_value=1, max_value=500), st.integers(min_value=1, max_value=16_384), st.none() | RATES)
def test_two_fetch_where_there_are_two_and_never_too_many(live: int, pieces: int, rates: SiteRates | None) -> None:
    count = ambassador_count(live=live, piece_count=pieces, piece_bytes=2**18, rates=rates)
    assert min(live, pieces, LEAST_AMBASSADORS) <= count <= min(live, pieces, MOST_AMBASSADORS)
    held = IN_FLIGHT_SHARE * pieces * 2**18
    if rates is not None:
        held = max(held, IN_FLIGHT_SECONDS * rates.wan_bytes_per_s)
    assert count <= LEAST_AMBASSADORS or count * 2**18 <= held


def test_the_wider_the_wan_beside_the_lan_the_more_fetch() -> None:
    def count(wan: int, lan: int) -> int:
        rates = SiteRates(wan_bytes_per_s=wan, lan_bytes_per_s=lan, rtt_seconds=None)
        return ambassador_count(live=10, piece_count=512, piece_bytes=2**18, rates=rates)

    assert count(6_250_000, 125_000_000) == LEAST_AMBASSADORS
    assert count(6_250_000, 25_000_000) == 4
    assert count(12_500_000, 12_500_000) == 10
