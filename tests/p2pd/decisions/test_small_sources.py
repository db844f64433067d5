# SPDX-License-Identifier: Apache-2.0
"""Whom to ask for small payloads: trees without circles, one copy from the origin, and always somebody who goes on."""

import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from p2pd.decisions.ambassadors import Timing, Wait
from p2pd.decisions.small_sources import (
    FAN_OUT,
    MOST_ASKED,
    STRIPES,
    AskOrigin,
    AskPeer,
    StripeView,
    choose_source,
    parent,
    rank_key,
    stripe_of,
)
from signing.reasons import Reason

TIMING = Timing(settle=1.5, stall=8.0)
devices = st.text("abcdef", min_size=1, max_size=4)
sites = st.lists(devices, min_size=1, max_size=40, unique=True).map(tuple)


def view_of(me: str, live: tuple[str, ...], **about: float | bool) -> StripeView:
    settled: dict[str, float | bool] = {
        "is_first": live[0] == me,
        "is_whole": True,
        "listening_since": 0.0,
        "last_progress": 0.0,
    }
    return StripeView(me=me, live=live, **(settled | about))  # type: ignore[arg-type]  # floats and bools by name


@given(sites)
def test_the_tree_has_one_root_no_circles_and_few_children(live: tuple[str, ...]) -> None:
    parents = {device: parent(device, live) for device in live}
    assert [device for device, above in parents.items() if above is None] == [live[0]]
    assert all(live.index(above) < live.index(device) for device, above in parents.items() if above)
    assert all(count <= FAN_OUT for count in Counter(filter(None, parents.values())).values())


@given(sites)
def test_the_last_is_a_logarithm_away_from_the_first(live: tuple[str, ...]) -> None:
    steps, above = 0, parent(live[-1], live)
    while above is not None:
        steps, above = steps + 1, parent(above, live)
    assert steps <= math.log(len(live), FAN_OUT) + 1


@given(sites, st.data(), st.floats(0, 1_000), st.booleans(), st.floats(0, 1_000))
def test_whoever_lacks_something_has_something_to_do(
    live: tuple[str, ...], data: st.DataObject, now: float, is_whole: bool, last_progress: float
) -> None:
    me = data.draw(st.sampled_from(live))
    asked = data.draw(st.frozensets(st.sampled_from(live), max_size=MOST_ASKED + 2)) - {me}
    lacked = dict.fromkeys(asked, now)
    view = view_of(me, live, is_whole=is_whole, last_progress=last_progress)
    source = choose_source(view, lacked=lacked, now=now, timing=TIMING)
    if isinstance(source, AskPeer):
        assert source.device in set(live) - asked - {me}
        assert 0 <= source.wait_seconds <= TIMING.stall
    elif isinstance(source, Wait):
        assert source.until > now
    patience_ends = max(TIMING.settle, last_progress + TIMING.stall * len(live))
    tried_all = len(asked) >= MOST_ASKED or set(live) - asked == {me}
    if now >= patience_ends and tried_all:
        assert isinstance(source, AskOrigin)


@given(sites)
def test_one_goes_to_the_origin_and_the_others_ask_their_parents(live: tuple[str, ...]) -> None:
    for me in live:
        lacked = dict.fromkeys(live[1:], 2.0) if me == live[0] else {}
        source = choose_source(view_of(me, live), lacked=lacked, now=2.0, timing=TIMING)
        if me == live[0]:
            assert source == AskOrigin(reason=None)
        else:
            assert source == AskPeer(device=parent(me, live) or "", wait_seconds=6.0 if live[1] == me else 8.0)


def test_the_first_asks_around_before_the_origin() -> None:
    live = ("me", "b", "c")
    for lacked, device in (({}, "b"), ({"b": 4.0}, "c")):
        source = choose_source(view_of("me", live), lacked=lacked, now=5.0, timing=TIMING)
        assert source == AskPeer(device=device, wait_seconds=0)
    assert choose_source(view_of("me", live), lacked={"b": 4.0, "c": 4.0}, now=5.0, timing=TIMING) == AskOrigin(
        reason=None
    )


def test_it_asks_no_more_than_so_many() -> None:
    live = ("me", *map(str, range(30)))
    lacked = dict.fromkeys(live[1 : MOST_ASKED + 1], 4.0)
    assert isinstance(choose_source(view_of("me", live), lacked=lacked, now=5.0, timing=TIMING), AskOrigin)


def test_the_origin_is_left_alone_while_discovery_settles_but_peers_are_not() -> None:
    alone = view_of("me", ("me",), is_whole=False)
    assert choose_source(alone, lacked={}, now=1.0, timing=TIMING) == Wait(until=1.5, reason=Reason.DISCOVERY_SETTLING)
    two = view_of("me", ("me", "b"), is_whole=False)
    assert choose_source(two, lacked={}, now=1.0, timing=TIMING) == AskPeer(device="b", wait_seconds=0)


def test_reasons_for_going_to_the_origin_out_of_turn() -> None:
    unseen = view_of("me", ("me",), is_first=False, is_whole=False)
    assert choose_source(unseen, lacked={}, now=2.0, timing=TIMING) == AskOrigin(reason=Reason.AMBASSADORS_UNSEEN)
    second = view_of("me", ("a", "me"))
    assert choose_source(second, lacked={"a": 7.5}, now=7.9, timing=TIMING) == Wait(
        until=8.0, reason=Reason.WAITING_FOR_AMBASSADOR
    )
    assert choose_source(second, lacked={"a": 7.5}, now=8.0, timing=TIMING) == AskOrigin(
        reason=Reason.TOOK_OVER_STALLED
    )


def test_before_it_goes_out_of_turn_it_asks_once_more() -> None:
    """Who lacked it half a minute ago may have brought it meanwhile."""
    second = view_of("me", ("a", "me"))
    assert choose_source(second, lacked={"a": 2.0}, now=8.0, timing=TIMING) == AskPeer(device="a", wait_seconds=0)


@given(st.lists(st.tuples(st.sampled_from(["join", "die"]), st.integers(0, 8)), max_size=30))
def test_the_origin_is_asked_again_only_when_all_who_had_it_are_gone(events: list[tuple[str, int]]) -> None:
    """Up to MOST_ASKED + 1 endpoints, which see each other, in any sequence of joins and deaths."""
    order = tuple(f"pc-{number}" for number in range(MOST_ASKED + 1))
    alive, holders, copies, losses = {order[0]}, set[str](), 0, 0
    for event, number in [*events, ("join", 0)]:
        if event == "join":
            alive.add(order[number])
        else:
            alive.discard(order[number])
            had_some, holders = bool(holders), holders & alive
            losses += had_some and not holders
        live = tuple(device for device in order if device in alive)
        for _ in live:  # as many rounds as the deepest tree has levels
            for me in live:
                lacked = dict[str, float]()
                while me not in holders:
                    view = view_of(me, live, last_progress=100.0)
                    source = choose_source(view, lacked=lacked, now=101.0, timing=TIMING)
                    if isinstance(source, AskOrigin):
                        copies += 1
                        holders.add(me)
                    elif isinstance(source, Wait) or source.wait_seconds:
                        if isinstance(source, AskPeer) and source.device in holders:
                            holders.add(me)
                        break
                    elif source.device in holders:
                        holders.add(me)
                    else:
                        lacked[source.device] = 101.0
        assert holders == alive
    assert copies <= 1 + losses


@given(st.binary(min_size=32, max_size=32))
def test_every_payload_has_a_stripe(digest: bytes) -> None:
    assert 0 <= stripe_of(digest.hex()) < STRIPES


def test_stripes_have_orders_of_their_own() -> None:
    assert len({rank_key(stripe) for stripe in range(STRIPES)}) == STRIPES
