# SPDX-License-Identifier: Apache-2.0
"""Patches share the origin's link by severity: the critical one goes first, and every other one goes on."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pd.decisions.sharing import (
    LEAST_LAN_RATE,
    REQUEST_BYTES,
    WEIGHTS,
    Claim,
    LanLeg,
    joined,
    lan_limits,
    may_begin,
)
from signing.manifest import Severity

severities = st.sampled_from(Severity)
claims = st.dictionaries(
    st.integers(0, 5),
    st.builds(
        Claim,
        weight=st.sampled_from(sorted(WEIGHTS.values())),
        spent=st.floats(0, 2**40),
        under_way=st.integers(0, 3),
        limit=st.integers(1, 8),
        wants=st.booleans(),
    ),
    min_size=1,
)


def served(wanting: dict[str, Claim], requests: int) -> dict[str, int]:
    """How many of so many requests, one after the other, each gets."""
    got = dict.fromkeys(wanting, 0)
    for _ in range(requests):
        allowed = [key for key in wanting if may_begin(key, wanting)]
        assert allowed, "the link never stands still while anybody wants it"
        key = allowed[0]
        got[key] += 1
        claim = wanting[key]
        wanting[key] = replace(claim, spent=claim.spent + REQUEST_BYTES / claim.weight)
    return got


def wanting(*severities: Severity) -> dict[str, Claim]:
    return {severity.value: Claim(weight=WEIGHTS[severity], wants=True) for severity in severities}


def test_a_critical_patch_has_the_link_as_good_as_alone() -> None:
    claims = wanting(*Severity)
    got = served(claims, 710)
    assert got["critical"] == 640
    assert all(got[severity] >= 10 for severity in ("low", "moderate", "important"))


def test_the_rest_share_by_weight() -> None:
    assert served(wanting(Severity.LOW, Severity.IMPORTANT), 50) == {"low": 10, "important": 40}


def test_the_first_request_after_a_critical_one_has_come_is_its_own() -> None:
    low = Claim(weight=1, spent=9e9, wants=True)
    claims = {"low": low, "critical": joined(Claim(weight=64, wants=True), {"low": low})}
    assert served(claims, 50) == {"low": 0, "critical": 50}


@given(claims)
def test_one_of_those_who_want_may_go_on_as_long_as_the_link_has_room(claims: dict[int, Claim]) -> None:
    active = [claim for claim in claims.values() if claim.is_active]
    wanting = [key for key, claim in claims.items() if claim.wants]
    allowed = [key for key in wanting if may_begin(key, claims)]
    has_room = bool(active) and sum(each.under_way for each in active) < max(each.limit for each in active)
    assert bool(allowed) == (has_room and bool(wanting))


@given(claims, severities)
def test_whoever_joins_neither_collects_what_it_did_not_ask_for_nor_pays_for_it(
    claims: dict[int, Claim], severity: Severity
) -> None:
    others = {key: claim for key, claim in claims.items() if key != 0}
    mine = claims.get(0, Claim(weight=WEIGHTS[severity]))
    spent = [claim.spent for claim in others.values() if claim.is_active]
    found = joined(mine, others)
    assert replace(found, spent=mine.spent) == mine
    assert found == mine if not spent else min(spent) <= found.spent <= max(spent)


@settings(max_examples=25)
@given(st.lists(severities, min_size=2, max_size=5), st.integers(200, 400))
def test_nobody_starves_and_shares_are_kept(chosen: list[Severity], requests: int) -> None:
    claims = {f"{number}": Claim(weight=WEIGHTS[severity], wants=True) for number, severity in enumerate(chosen)}
    total = sum(claim.weight for claim in claims.values())
    weights = {key: claim.weight for key, claim in claims.items()}
    for key, got in served(claims, requests).items():
        assert abs(got - requests * weights[key] / total) <= len(chosen)


legs = st.dictionaries(
    st.integers(0, 5),
    st.builds(
        LanLeg,
        weight=st.sampled_from(sorted(WEIGHTS.values())),
        backlog=st.integers(0, 2**34),
        piece_bytes=st.sampled_from([2**14, 2**18, 2**22]),
        pace=st.floats(0, 1e9),
    ),
    min_size=1,
)


@given(legs, st.floats(0, 1e9))
def test_on_the_lan_only_those_below_a_pressing_patch_are_held_back_and_none_to_nothing(
    legs: dict[int, LanLeg], link: float
) -> None:
    limits = lan_limits(legs, link=link)
    highest = max((leg.weight for leg in legs.values() if leg.is_pressing), default=0)
    assert limits.keys() == legs.keys()
    for key, leg in legs.items():
        limit = limits[key]
        assert (limit is not None) is (leg.weight < highest)
        assert limit is None or limit >= LEAST_LAN_RATE
        assert limit is None or limit <= max(LEAST_LAN_RATE, link * leg.weight / (leg.weight + highest))


def test_a_patch_that_gets_all_there_is_presses_nobody() -> None:
    """Behind a slow WAN peers have little more of it than is here already: the LAN is free for others."""
    slow = LanLeg(weight=64, backlog=2 * 2**18, piece_bytes=2**18, pace=100_000.0)
    crowded = LanLeg(weight=64, backlog=40 * 2**18, piece_bytes=2**18, pace=2_000_000.0)
    silent = LanLeg(weight=64, backlog=40 * 2**18, piece_bytes=2**18, pace=0.0)
    low = LanLeg(weight=1, backlog=100 * 2**18, piece_bytes=2**18, pace=8_000_000.0)
    assert lan_limits({"severe": slow, "low": low}, link=1e7) == {"severe": None, "low": None}
    assert lan_limits({"severe": crowded, "low": low}, link=1e7) == {"severe": None, "low": 1e7 / 65}
    assert lan_limits({"severe": silent, "low": low}, link=1e7) == {"severe": None, "low": None}
