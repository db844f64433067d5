# SPDX-License-Identifier: Apache-2.0
"""With whom endpoints keep connections: few each, and whoever is there can reach everybody."""

import random
from collections import Counter
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pd.decisions.ambassadors import rank
from p2pd.decisions.neighbours import Bounds, Plan, SwarmView, Tie, dials_first, neighbours, plan
from p2pd.decisions.peer_health import Health, struck
from signing.reasons import Reason
from signing.schedule import Member

BOUNDS = Bounds()
INFO_HASHES = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
MUTUAL = {Tie.MESH, Tie.RANK, Tie.CIRCLE, Tie.SEAT}


def site(count: int) -> tuple[str, ...]:
    return tuple(f"pc-{number}" for number in range(count))


def view(me: str, members: tuple[str, ...], info_hash: str = "a" * 64, **changes: object) -> SwarmView:
    """Everybody announces the torrent, and nothing has happened yet."""
    start = SwarmView(
        me=me,
        info_hash=info_hash,
        ranked=rank(info_hash, (Member(device=device) for device in members)),
        announced=frozenset(members) - {me},
        connected=frozenset(),
        latency={},
        health={},
        wanted_since={},
        dialled_at={},
    )
    return replace(start, **changes)  # type: ignore[arg-type]  # names and values are the caller's


def wanted(seen: SwarmView, now: float = 0.0) -> Mapping[str, Tie]:
    return neighbours(seen, now=now, bounds=BOUNDS)


def both_ways(choices: Mapping[str, AbstractSet[str]]) -> dict[str, set[str]]:
    """Connections: one end is enough to want them."""
    links: dict[str, set[str]] = {device: set(chosen) for device, chosen in choices.items()}
    for device, chosen in choices.items():
        for other in chosen:
            links[other].add(device)
    return links


def distances(links: Mapping[str, AbstractSet[str]], start: str) -> dict[str, int]:
    """Hops from `start` to whoever can be reached."""
    found, edge = {start: 0}, {start}
    while edge:
        hops = 1 + max(found.values())
        edge = set().union(*(links[device] for device in edge)) - found.keys()
        found |= dict.fromkeys(edge, hops)
    return found


@given(INFO_HASHES, st.integers(1, BOUNDS.mesh))
def test_a_small_swarm_is_a_full_mesh(info_hash: str, count: int) -> None:
    members = site(count)
    for me in members:
        assert wanted(view(me, members, info_hash)).keys() == set(members) - {me}


@settings(deadline=None, max_examples=30)
@given(INFO_HASHES, st.integers(BOUNDS.mesh + 1, 120))
def test_those_who_see_each_other_are_connected_by_few_short_ways_and_agree(info_hash: str, count: int) -> None:
    members = site(count)
    choices = {me: wanted(view(me, members, info_hash)) for me in members}
    for me, chosen in choices.items():
        assert len(chosen) <= BOUNDS.most < 40
        assert all(me in choices[other] for other, tie in chosen.items() if tie in MUTUAL)
    links = both_ways({me: chosen.keys() for me, chosen in choices.items()})
    for first in rank(info_hash, (Member(device=device) for device in members))[:4]:
        hops = distances(links, first)
        assert hops.keys() == set(members)
        assert max(hops.values()) <= 4, "from where pieces enter the site"


def test_a_site_of_500_is_no_mesh() -> None:
    members = site(500)
    choices = {me: wanted(view(me, members)).keys() for me in members}
    links = both_ways(choices)
    assert sum(map(len, links.values())) / 500 < 16
    assert max(map(len, links.values())) <= BOUNDS.most
    assert max(distances(links, members[0]).values()) <= 5


@settings(deadline=None, max_examples=30)
@given(INFO_HASHES, st.integers(BOUNDS.mesh + 1, 100), st.floats(0.0, 0.3), st.integers(0, 2**32))
def test_views_that_differ_leave_nobody_alone(info_hash: str, count: int, missing: float, seed: int) -> None:
    members, chance = site(count), random.Random(seed)  # noqa: S311 (reproducible, not secret)
    choices = {}
    for me in members:
        seen = frozenset(d for d in members if d != me and chance.random() >= missing)
        choices[me] = wanted(view(me, members, info_hash, announced=seen)).keys()
        assert choices[me] <= seen
    links = both_ways(choices)
    assert distances(links, members[0]).keys() == set(members)
    assert max(map(len, links.values())) <= 64, "as many as a torrent takes"


@settings(deadline=None, max_examples=30)
@given(INFO_HASHES, st.sets(st.integers(0, 59), max_size=50))
def test_the_circles_close_around_the_banned(info_hash: str, gone: set[int]) -> None:
    members = site(60)
    dead = {members[number] for number in gone}
    health = {device: Health(strikes=1, reason=Reason.PEER_UNREACHABLE, banned_until=10.0) for device in dead}
    living = set(members) - dead
    choices = {me: wanted(view(me, members, info_hash, health=health), now=9.9).keys() for me in living}
    assert all(not chosen & dead for chosen in choices.values())
    assert distances(both_ways(choices), min(living)).keys() == living
    again = {device for me in living for device in wanted(view(me, members, info_hash, health=health), now=10.0)}
    assert again >= dead, "a ban ends by itself"


def test_the_next_in_rank_see_those_ahead_of_them() -> None:
    members = site(200)
    ranked = rank("a" * 64, (Member(device=device) for device in members))
    for place, me in enumerate(ranked):
        assert wanted(view(me, members)).keys() >= set(ranked[max(0, place - 2) : place])


def test_near_ones_are_preferred_and_one_stranger_is_measured() -> None:
    members = site(100)
    plain = {device for device, tie in wanted(view("pc-1", members)).items() if tie in MUTUAL}
    others = sorted(set(members) - plain - {"pc-1"})
    latency = {device: 0.001 * (number + 1) for number, device in enumerate(reversed(others[1:]))}
    chosen = wanted(view("pc-1", members, latency=latency))
    assert [d for d, tie in chosen.items() if tie is Tie.NEAR] == [others[-1], others[-2]]
    assert [d for d, tie in chosen.items() if tie is Tie.SCOUT] == [others[0]], "the only one that was never measured"
    connected = chosen.keys() | set(others[2:12])
    content = wanted(view("pc-1", members, latency=latency, connected=connected))
    assert Tie.SCOUT not in content.values(), "nobody is looked for when there are connections to spare"


def test_members_only() -> None:
    seen = view("pc-1", site(3), announced=frozenset(["pc-2", "stranger"]), connected=frozenset(["other"]))
    assert wanted(seen).keys() == {"pc-2"}


@given(st.text(max_size=8), st.text(max_size=8))
def test_of_two_one_dials_first(one: str, other: str) -> None:
    assert one == other or dials_first(one, other) is not dials_first(other, one)


def test_everybody_dials_about_half() -> None:
    members = site(40)
    dials = Counter(one for one in members for other in members if one != other and dials_first(one, other))
    assert 8 <= min(dials.values()) <= max(dials.values()) <= 31


def decide(seen: SwarmView, now: float) -> Plan:
    return plan(seen, now=now, bounds=BOUNDS)


def test_the_second_to_dial_waits_and_then_dials_too() -> None:
    for me, other in (("pc-0", "pc-1"), ("pc-1", "pc-0")):
        seen = view(me, site(2), wanted_since={other: 5.0})
        at_once = decide(seen, 5.0)
        if dials_first(me, other):
            assert at_once.dial == (other,)
            assert at_once.look_again == 5.0 + BOUNDS.answer
        else:
            assert at_once.dial == ()
            assert at_once.look_again == 5.0 + BOUNDS.second_dial
            assert decide(seen, 5.0 + BOUNDS.second_dial).dial == (other,)


def test_who_does_not_answer_is_said_to() -> None:
    seen = view("pc-0", site(2), dialled_at={"pc-1": 1.0})
    assert decide(seen, 7.9) == Plan(wanted={"pc-1": Tie.MESH}, dial=(), unanswered=(), look_again=1.0 + BOUNDS.answer)
    assert decide(seen, 8.0).unanswered == ("pc-1",)


def test_nothing_is_due_when_all_are_connected() -> None:
    assert decide(view("pc-0", site(2), connected={"pc-1"}), 0.0).look_again is None


@pytest.mark.parametrize("reason", [Reason.PEER_LOST, Reason.PEER_UNREACHABLE, Reason.PEER_SLOW, Reason.PEER_CORRUPT])
def test_a_banned_peer_is_dialled_when_the_ban_ends_and_not_before(reason: Reason) -> None:
    health = {"pc-1": struck(None, reason, now=0.0)}
    ends = health["pc-1"].banned_until
    before = decide(view("pc-0", site(2), health=health), ends - 0.01)
    assert (before.dial, before.look_again) == ((), ends)
    after = decide(view("pc-0", site(2), health=health, wanted_since={"pc-1": ends - BOUNDS.second_dial}), ends)
    assert after.dial == ("pc-1",)
