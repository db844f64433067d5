# SPDX-License-Identifier: Apache-2.0
"""Who has fallen silent although it is there: a process that hangs keeps its connections. Pure: `now` is an argument.

An ambassador is judged by its own rhythm, since nobody knows how fast its origin is; a peer by what it could have sent.
Neither is called dead: its work is done in its place until it moves again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import or_

from p2pd.piece_set import NO_PIECES, PieceSet

LEAST_PATIENCE = 3.0  # seconds; a lost packet's repetition and a busy processor are no silence
FIRST_GAPS = 3  # before them a rhythm is not known
DEVIATIONS = 4.0  # RFC 6298
MOST_STALLS = 4.0  # a slow WAN may need longer than a stall for a piece, but not for ever
MUTE_SECONDS = 5.0
CHECK_SECONDS = 2.0  # between two checks for mute peers
BLINK_SECONDS = 5.0  # without a check: it was this endpoint that hung


@dataclass(frozen=True, kw_only=True)
class Rhythm:
    """How long one takes from piece to piece, smoothed as RFC 6298 smooths round trips; seconds."""

    mean: float = 0.0
    deviation: float = 0.0
    count: int = 0

    def after(self, gap: float) -> "Rhythm":
        """The rhythm with one more gap."""
        if self.count == 0:
            return Rhythm(mean=gap, deviation=gap / 2, count=1)
        return Rhythm(
            mean=self.mean + (gap - self.mean) / 8,
            deviation=self.deviation + (abs(gap - self.mean) - self.deviation) / 4,
            count=self.count + 1,
        )

    def patience(self, stall: float) -> float:
        """Seconds without a piece that are still no silence; `stall` as long as it is not known how fast it is."""
        if self.count < FIRST_GAPS:
            return stall
        usual = 2 * self.mean + DEVIATIONS * self.deviation
        return min(max(usual, min(LEAST_PATIENCE, stall)), MOST_STALLS * stall)


class Fronts:
    """The next piece of each ambassador's stripe, since when it is that one, and how fast it moved before."""

    def __init__(self) -> None:
        self._division: Mapping[str, PieceSet] = {}
        self._fronts: dict[str, tuple[int, float]] = {}
        self._rhythms: dict[str, Rhythm] = {}
        self._silent: set[str] = set()

    def look(self, stripes: Mapping[str, PieceSet], here: PieceSet, *, now: float) -> None:
        """Take in what is at the site. Other stripes are other work: everybody begins anew, as fast as before.

        What a peer takes away that leaves moves nobody, and a stripe that is done owes nothing.
        """
        if stripes != self._division:
            self._division, self._fronts, self._silent = stripes, {}, set()
        for device, stripe in stripes.items():
            left = stripe - here
            if not left:
                self._fronts.pop(device, None)
                continue
            front, known = left.lowest, self._fronts.get(device)
            if known is None:
                self._fronts[device] = front, now
            elif device in self._silent:
                self._fronts[device] = front, known[1]  # others move it, and not as fast as it would
            elif front > known[0]:
                self._rhythms[device] = self._rhythms.get(device, Rhythm()).after(now - known[1])
                self._fronts[device] = front, now
            else:
                self._fronts[device] = front, known[1]

    def silent(self, *, me: str, now: float, stall: float) -> frozenset[str]:
        """Those who have owed the next piece of their stripe for longer than their rhythm explains.

        Nobody is while `me` owes one for so long: then it is the origin. They count as silent until the division is
        another, since from then on others bring their pieces as well: that costs what is on its way to them, once, if
        they were slow.
        """
        late = {
            device
            for device, (_, since) in self._fronts.items()
            if now - since >= self._rhythms.get(device, Rhythm()).patience(stall)
        }
        if me in late:
            self._silent.clear()
        else:
            self._silent |= late
        return frozenset(self._silent)

    def excuse(self, *, now: float) -> None:
        """Everybody's silence has a reason that is not theirs."""
        self._silent.clear()
        self._fronts = {device: (front, now) for device, (front, _) in self._fronts.items()}


@dataclass(frozen=True, kw_only=True)
class Offer:
    """One connected peer at one moment."""

    have: PieceSet
    missing: PieceSet  # those of them that are missing here
    bytes_in: int  # payload that it has sent


class Ears:
    """Notices peers that alone offer what is missing, and neither send anything nor get anything themselves.

    What is rare is asked for first; of what others offer as well, whoever sends nothing may just not be needed.
    """

    def __init__(self) -> None:
        self._since: dict[str, tuple[float, Offer]] = {}
        self._checked_at: float | None = None

    def mute(self, offers: Mapping[str, Offer], *, now: float) -> frozenset[str]:
        """Those of the connected peers who have been mute for a while; to be asked every CHECK_SECONDS or sooner."""
        if self._checked_at is not None and now - self._checked_at > BLINK_SECONDS:
            self._since = {}
        self._checked_at = now
        before, self._since = self._since, {}
        for device, offer in offers.items():
            since, known = before.get(device, (now, offer))
            moved = (offer.have, offer.bytes_in) != (known.have, known.bytes_in)
            self._since[device] = (now if moved or not offer.missing else since), offer
        quiet = {device for device, (since, _) in self._since.items() if now - since >= MUTE_SECONDS}
        others = reduce(or_, (offer.have for device, offer in offers.items() if device not in quiet), NO_PIECES)
        return frozenset(device for device in quiet if offers[device].missing - others)
