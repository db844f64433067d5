# SPDX-License-Identifier: Apache-2.0
"""With whom of a site an endpoint keeps connections for one torrent: few, and yet nobody is left alone.

Every endpoint chooses for itself, from what it sees, and both ends of a connection mostly agree:

- a small swarm is a full mesh, which is the fastest;
- in a larger one each endpoint keeps to those beside it in rank order, so that whoever is next to fetch from the origin
  sees a death ahead of it, and to those beside it in a few circles, each a shuffle of its own. One circle connects all
  who see each other, and several make every way short (random cycles expand: Law & Siu 2003);
- each of the first in rank, where pieces enter the site, seats a bounded number of others;
- it keeps to the nearest few by measured latency, and looks for nearer ones while it has connections to spare.

Whoever cannot be reached is banned for a while, longer each time, and the circles close around it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from heapq import nsmallest

from p2pd.decisions.peer_health import Health, is_banned


class Tie(StrEnum):
    """Why a connection is wanted. The first that applies counts."""

    MESH = "mesh"  # the swarm is small
    RANK = "rank"  # beside each other in rank order
    CIRCLE = "circle"  # beside each other in one of the circles
    SEAT = "seat"  # one of them is among the first in rank, and has a seat for the other
    NEAR = "near"  # low latency
    SCOUT = "scout"  # nobody knows yet how near it is


_MUTUAL = frozenset({Tie.MESH, Tie.RANK, Tie.CIRCLE, Tie.SEAT})  # the other end wants them, too


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """How many neighbours, and patience in seconds."""

    mesh: int = 16  # a swarm of up to so many, this endpoint included, is a full mesh
    beside: int = 2  # in rank order, to either side
    circles: int = 4  # two neighbours in each
    first: int = 4  # so many of the first in rank …
    seats: int = 12  # … seat so many others each
    near: int = 2
    second_dial: float = 1.5  # for the other end to dial first; libtorrent dials on full seconds
    answer: float = 7.0  # what has not led to a connection by then has failed: a lost SYN is sent again after 1 and 3 s

    @property
    def most(self) -> int:
        """Nobody wants more neighbours than this; whose views differ may want somebody who does not want them."""
        seats = max(self.seats, self.first) + self.first
        return max(self.mesh - 1, 2 * (self.beside + self.circles) + seats + self.near + 1)


@dataclass(frozen=True, kw_only=True)
class SwarmView:
    """One torrent's swarm as this endpoint sees it now. Moments are seconds on one monotonic clock."""

    me: str
    info_hash: str
    ranked: tuple[str, ...]  # members of the site, best first; nobody else is dialled
    announced: AbstractSet[str]  # those who say that they carry the torrent, and can be dialled
    connected: AbstractSet[str]
    latency: Mapping[str, float]  # seconds, of whoever was measured, in whatever torrent
    health: Mapping[str, Health]
    wanted_since: Mapping[str, float]
    dialled_at: Mapping[str, float]  # not answered yet


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What follows from a view. The `unanswered` are to be struck (see `peer_health`), and then planned for anew."""

    wanted: Mapping[str, Tie]
    dial: tuple[str, ...]
    unanswered: tuple[str, ...]
    look_again: float | None  # when time alone changes the plan, once it is carried out; None: never


def plan(view: SwarmView, *, now: float, bounds: Bounds) -> Plan:
    """Whom to dial now, who has not answered, and when to look again."""
    wanted = neighbours(view, now=now, bounds=bounds)
    dial: list[str] = []
    unanswered: list[str] = []
    bans = (view.health[device] for device in view.announced & view.health.keys() - view.connected)
    moments = [health.banned_until for health in bans if is_banned(health, now=now)]
    for device, tie in wanted.items():
        if device in view.connected:
            continue
        if device in view.dialled_at:
            due, bucket = view.dialled_at[device] + bounds.answer, unanswered
        else:
            waits = tie in _MUTUAL and not dials_first(view.me, device)
            due, bucket = view.wanted_since.get(device, now) + (bounds.second_dial if waits else 0.0), dial
        if due <= now:
            bucket.append(device)
        else:
            moments.append(due)
    if dial:
        moments.append(now + bounds.answer)
    return Plan(wanted=wanted, dial=tuple(dial), unanswered=tuple(unanswered), look_again=min(moments, default=None))


def neighbours(view: SwarmView, *, now: float, bounds: Bounds) -> Mapping[str, Tie]:
    """Whom to be connected with, and why; never more than `bounds.most`."""
    there = candidates(view, now=now) | {view.me}
    if len(there) <= bounds.mesh:
        return dict.fromkeys(sorted(there - {view.me}), Tie.MESH)
    ranked = tuple(device for device in view.ranked if device in there)
    ties: dict[str, Tie] = {}
    _tie(ties, _beside(ranked, view.me, bounds.beside), Tie.RANK)
    for number in range(bounds.circles):
        circle = _shuffled(view.info_hash, f"circle {number}", there)
        place = circle.index(view.me)
        _tie(ties, (circle[place - 1], circle[(place + 1) % len(circle)]), Tie.CIRCLE)
    for first in ranked[: bounds.first]:
        seated = _seats(view.info_hash, first, there, bounds.seats)
        if first == view.me:
            _tie(ties, seated, Tie.SEAT)
        elif view.me in seated:
            _tie(ties, (first,), Tie.SEAT)
    others = there - ties.keys() - {view.me}
    measured = others & view.latency.keys()
    _tie(ties, nsmallest(bounds.near, measured, key=lambda device: (view.latency[device], device)), Tie.NEAR)
    if len(view.connected) < len(ties) + bounds.near:
        circle = _shuffled(view.info_hash, "circle 0", there)
        place = circle.index(view.me)
        unknown = others - measured
        _tie(ties, [device for device in circle[place:] + circle[:place] if device in unknown][:1], Tie.SCOUT)
    return ties


def candidates(view: SwarmView, *, now: float) -> frozenset[str]:
    """Whom of the members there is to choose from: connected, or announced and not banned."""
    banned = {device for device, health in view.health.items() if is_banned(health, now=now)}
    return _members(view.ranked) & ((view.announced - banned) | view.connected) - {view.me}


def dials_first(one: str, other: str) -> bool:
    """Whether `one` dials, of two who want each other. Everybody dials about half of its neighbours."""
    low, high = sorted((one, other))
    return (one == low) == (_draw("", low, high)[0] % 2 == 0)


def _tie(ties: dict[str, Tie], devices: Sequence[str], tie: Tie) -> None:
    for device in devices:
        ties.setdefault(device, tie)


def _beside(ranked: tuple[str, ...], me: str, count: int) -> tuple[str, ...]:
    if me not in ranked:
        return ()
    place = ranked.index(me)
    return ranked[max(0, place - count) : place] + ranked[place + 1 : place + 1 + count]


def _seats(info_hash: str, first: str, devices: frozenset[str], count: int) -> tuple[str, ...]:
    best = _shuffled(info_hash, f"seats {first}", devices)[: count + 1]
    return tuple(device for device in best if device != first)[:count]


@lru_cache(maxsize=8)
def _members(ranked: tuple[str, ...]) -> frozenset[str]:
    return frozenset(ranked)


@lru_cache(maxsize=64)  # between most looks nothing changes, and 8 orders make a plan
def _shuffled(info_hash: str, salt: str, devices: frozenset[str]) -> tuple[str, ...]:
    return tuple(sorted(devices, key=lambda device: (_draw(info_hash, salt, device), device)))


@lru_cache(maxsize=16_384)  # a site of 1,000 in 8 orders and two torrents: about 3 MB
def _draw(info_hash: str, salt: str, device: str) -> bytes:
    return hashlib.sha256(f"{info_hash}\0{salt}\0{device}".encode()).digest()[:8]
