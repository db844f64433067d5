# SPDX-License-Identifier: Apache-2.0
"""Who of a site fetches from the origin. Every endpoint decides for itself, from what it sees, and they agree.

The order is rendezvous hashing of the release's info-hash and the device, weighted by the schedule: any two endpoints
with the same signed schedule rank alike, and a death moves only the dead one's share.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from signing.reasons import Reason
from signing.schedule import Member, SiteRates

LEAST_AMBASSADORS = 2
MOST_AMBASSADORS = 16  # each keeps at least two connections open to the origin
UNMEASURED_AMBASSADORS = 10  # a WAN as fast as the LAN needs all of a small site; a slow one is not hurt by some more
IN_FLIGHT_SHARE = 0.03  # of the payload, as pieces that are not whole yet
IN_FLIGHT_SECONDS = 0.25  # … or what the WAN brings in so long, where that is more


LEAST_PACE = 32_768  # bytes/s from all peers together: no LAN is slower
LONGEST_DRIP_SECONDS = 120.0  # for all that they offer, at a pace below that


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Patience, in seconds."""

    settle: float = 1.5  # for mDNS and handshakes before silence counts as absence: Passim states 2 s to find a peer
    stall: float = 8.0  # without any new piece on the site before the next in rank steps in


@dataclass(frozen=True, kw_only=True)
class SiteView:
    """One release's swarm as this endpoint sees it now. Moments are seconds on one monotonic clock."""

    me: str
    ranked: tuple[str, ...]  # every member that may fetch the release, best first, `me` among them
    connected: frozenset[str]  # in a mutual TLS session with us
    expected: Mapping[str, float]  # on the LAN, and not connected yet: until when that counts
    carriers: frozenset[str]  # of those, who had the torrent before us, and maybe some of its pieces
    whole: frozenset[str] = frozenset()  # who says that it has all of them, connected or to be dialled
    listening_since: float  # to the LAN
    began: float  # with this torrent
    last_progress: float  # when others last made a piece available, here or at a peer, or another came to be the first
    aside: frozenset[str] = frozenset()  # those who say that they bring the site nothing from the origin now
    barred: Reason | None = None  # why `me` may not ask the origin at all

    @property
    def live(self) -> tuple[str, ...]:
        """Those who can be counted on, best first; `me` among them."""
        return tuple(d for d in self.ranked if d == self.me or d in self.connected or d in self.expected)

    @property
    def fetchers(self) -> tuple[str, ...]:
        """Those of them who may bring pieces from the origin and pass them on, best first."""
        return tuple(d for d in self.live if d not in self.aside)

    @property
    def must_be_introduced(self) -> bool:
        """Whether others seem to have what we are about to ask for: a handshake costs less than the origin's bytes."""
        if self.whole and not self.whole & self.connected:
            return True
        return bool(self.carriers) and not self.connected

    @property
    def place(self) -> int:
        """How many fetchers come before `me`; before one who stands aside, all of them."""
        fetchers = self.fetchers
        return fetchers.index(self.me) if self.me in fetchers else len(fetchers)


@dataclass(frozen=True, kw_only=True)
class Fetch:
    """Go to the origin; `ambassadors` share the pieces, `me` among them.

    `reason` is set when it is not simply this endpoint's turn: a takeover, or better-ranked ones who never showed up.
    """

    ambassadors: tuple[str, ...]
    reason: Reason | None = None

    @property
    def is_takeover(self) -> bool:
        """Somebody else may be fetching, too."""
        return self.reason is Reason.TOOK_OVER_STALLED


@dataclass(frozen=True, kw_only=True)
class Wait:
    """Leave the origin alone for `reason`; ask again at `until`, or when the view changes."""

    until: float
    reason: Reason


def rank(info_hash: str, members: Iterable[Member]) -> tuple[str, ...]:
    """Devices by weighted rendezvous hash, best first (-w / ln h: Schindelhauer & Schomaker 2005)."""

    def score(member: Member) -> tuple[float, str]:
        digest = hashlib.sha256(f"{info_hash}\0{member.device}".encode()).digest()
        unit = (int.from_bytes(digest[:8]) + 1) / (2**64 + 1)  # strictly inside (0, 1), so that ln is finite
        return -member.weight / math.log(unit), member.device

    return tuple(member.device for member in sorted(members, key=score, reverse=True))


def ambassador_count(*, live: int, piece_count: int, piece_bytes: int, rates: SiteRates | None) -> int:
    """How many of `live` endpoints fetch from the origin; all who see the same schedule count alike.

    So many that their uplinks pass on what the WAN brings, each piece to everybody else, and one more. But each has a
    piece on its way that the others get only when it is whole: together these stay small against the payload, or
    are there within a moment. Two where there are two, so that one death does not stop the site.
    """
    in_flight = IN_FLIGHT_SHARE * piece_count * piece_bytes
    wanted = UNMEASURED_AMBASSADORS
    if rates is not None:
        in_flight = max(in_flight, IN_FLIGHT_SECONDS * rates.wan_bytes_per_s)
        wanted = math.ceil((live - 1) * rates.wan_bytes_per_s / rates.lan_bytes_per_s) + 1
    most = max(LEAST_AMBASSADORS, min(MOST_AMBASSADORS, int(in_flight / piece_bytes)))
    return max(1, min(live, piece_count, max(wanted, LEAST_AMBASSADORS), most))


def decide_role(view: SiteView, *, now: float, timing: Timing, ambassador_count: int = 1) -> Fetch | Wait:
    """Whether this endpoint goes to the origin now.

    The first `ambassador_count` live devices in rank do, those left out who stand aside. Whoever is not among them
    steps in when nothing has moved for `timing.stall` times its distance from them, so that a silent ambassador costs
    seconds, not the patch. Whoever is barred never does: it waits for others as long as their turn lasts, and then says
    why. One who may fetch, and may not upload, stands aside for the others and helps itself when there are none.
    """
    live = view.live
    settled = view.listening_since + timing.settle
    if now < settled and len(live) < len(view.ranked):
        return Wait(until=settled, reason=Reason.DISCOVERY_SETTLING)
    introduced = view.began + timing.settle
    if now < introduced and view.must_be_introduced:
        return Wait(until=introduced, reason=Reason.DISCOVERY_SETTLING)
    fetchers = view.fetchers
    ambassadors = fetchers[:ambassador_count] or (view.me,)
    if view.me in ambassadors:
        if view.barred is not None:
            return Wait(until=math.inf, reason=view.barred)
        others_aside = view.aside - {view.me}
        is_first = view.me in [d for d in view.ranked if d not in others_aside][:ambassador_count]
        return Fetch(ambassadors=ambassadors, reason=None if is_first else Reason.AMBASSADORS_UNSEEN)
    distance = view.place - len(ambassadors) + 1
    my_turn = max(view.last_progress, view.began) + timing.stall * distance
    if now >= my_turn:
        if view.barred is not None:
            return Wait(until=math.inf, reason=view.barred)
        return Fetch(ambassadors=(view.me,), reason=Reason.TOOK_OVER_STALLED)
    soonest_loss = min((view.expected[device] for device in live if device in view.expected), default=my_turn)
    return Wait(until=min(my_turn, soonest_loss), reason=Reason.WAITING_FOR_AMBASSADOR)


def is_stalled(view: SiteView, *, now: float, timing: Timing) -> bool:
    """Whether an ambassador with nothing left to do takes over whatever is missing, whoever should bring it.

    Nothing has moved for `timing.stall`, in which those should have helped out whose reserve it is, and for as long
    again for each place in the order of the living: one at a time.
    """
    return now >= max(view.last_progress, view.began) + timing.stall * (2 + view.place)


def peers_are_trusted(*, last_gain: float, pace: float, offered_bytes: int, now: float, timing: Timing) -> bool:
    """Whether the pieces that peers claim to have are still left to them.

    `last_gain` is when peers last sent anything, or had nothing that we lack; `pace` is what they sent lately, in bytes
    per second (infinite while that is not known), and `offered_bytes` what we lack of theirs. A peer that offers
    everything and sends nothing, or next to nothing (slow retrieval), costs two stalls, then the origin is asked.
    """
    drips = pace < LEAST_PACE and offered_bytes > pace * LONGEST_DRIP_SECONDS
    return now - last_gain < 2 * timing.stall and not drips
