# SPDX-License-Identifier: Apache-2.0
"""How fast a site's links are, by what one endpoint sees of one transfer. No I/O, no clock.

Time is cut into windows. In those in which the site as a whole came to have more, and nobody came or went, the growth
is what the WAN brought: a peer that has just been met brings pieces into sight that were there before. What the LAN can
do shows only while much is asked of it, so that the best few seconds count, and not the mean.
"""

from collections.abc import Collection
from dataclasses import dataclass
from statistics import median

from signing.bounds import MAX_RATE, MAX_ROUND_TRIP
from signing.report import Measured

WINDOW_SECONDS = 1.0
OUT_WINDOW_SECONDS = 4.0  # what was sent to peers is looked at every three seconds
LEAST_SECONDS = 3.0  # of windows in which something moved, before their mean is a rate


@dataclass(frozen=True, kw_only=True)
class Glance:
    """One transfer at one moment, in bytes from its beginning; `peers` are those connected now."""

    at_site: int  # here, or at any connected peer
    here: int
    from_origin: int
    from_peers: int
    to_peers: int
    peers: frozenset[bytes]


class Meter:
    """Takes glances as often as they come, at moments `now` that never go back."""

    def __init__(self) -> None:
        self._began: tuple[float, Glance] | None = None
        self._out_began: tuple[float, int] | None = None
        self._wan = _Mean()
        self._intake = _Mean()
        self._origin = _Mean()
        self._best_in: float | None = None
        self._best_out: float | None = None

    def is_due(self, now: float) -> bool:
        """Whether `take` would end a window."""
        return self._began is None or now - self._began[0] >= WINDOW_SECONDS

    def take(self, now: float, glance: Glance) -> None:
        """End a window, if it has been long enough, and begin the next."""
        if not self.is_due(now):
            return
        if self._began is not None:
            began, before = self._began
            self._end_window(now - began, before, glance)
        self._began = now, glance
        if self._out_began is None:
            self._out_began = now, glance.to_peers
        elif now - self._out_began[0] >= OUT_WINDOW_SECONDS:
            began, sent = self._out_began
            self._best_out = _greater(self._best_out, (glance.to_peers - sent) / (now - began))
            self._out_began = now, glance.to_peers

    @property
    def wan(self) -> float:
        """Bytes per second that the site as a whole came to have; 0 as long as that is not known."""
        return self._wan.rate or 0.0

    def measured(self, *, origin_round_trip: float | None, peer_round_trips: Collection[float]) -> Measured | None:
        """What is known by now; None when that is nothing."""
        peers = median(peer_round_trips) if peer_round_trips else None
        found = Measured(
            wan_bytes_per_s=self._wan.rate,
            intake_bytes_per_s=self._intake.rate,
            origin_bytes_per_s=self._origin.rate,
            lan_in_bytes_per_s=self._best_in,
            lan_out_bytes_per_s=self._best_out,
            origin_round_trip=_bounded(origin_round_trip),
            peer_round_trip=_bounded(peers),
        )
        return None if found == Measured() else found

    def _end_window(self, seconds: float, before: Glance, after: Glance) -> None:
        grown = after.at_site - before.at_site
        if grown > 0 and after.peers == before.peers:
            self._wan.add(grown, seconds)
            self._intake.add(max(0, after.here - before.here), seconds)
        brought = after.from_origin - before.from_origin
        if brought > 0:
            self._origin.add(brought, seconds)
        self._best_in = _greater(self._best_in, (after.from_peers - before.from_peers) / seconds)


class _Mean:
    def __init__(self) -> None:
        self._bytes, self._seconds = 0, 0.0

    def add(self, count: int, seconds: float) -> None:
        self._bytes, self._seconds = self._bytes + count, self._seconds + seconds

    @property
    def rate(self) -> float | None:
        """Bytes per second; None: too little was seen."""
        if self._seconds < LEAST_SECONDS:
            return None
        return min(self._bytes / self._seconds, MAX_RATE)


def _greater(best: float | None, rate: float) -> float | None:
    """The better of two rates; nothing that moved is no rate."""
    return best if rate <= 0 else min(max(best or 0.0, rate), MAX_RATE)


def _bounded(seconds: float | None) -> float | None:
    return None if seconds is None else min(max(seconds, 0.0), MAX_ROUND_TRIP)
