# SPDX-License-Identifier: Apache-2.0
"""The site as the fetcher of small payloads sees it: who is there, in which order, and who is not asked for a while."""

from collections.abc import Mapping

import trio

from p2pd.decisions.ambassadors import Timing, rank
from p2pd.decisions.eligibility import ring_is_open
from p2pd.decisions.small_sources import STRIPES, StripeView, rank_key
from p2pd.ports_control import Trusted
from p2pd.services.site import Board, Identity, Peer
from signing.policy import Ring
from signing.schedule import Draft, Member, Offer

FAILED_SECONDS = 30.0  # a peer that could not be reached is not asked again, unless it announces itself anew
HOSTILE_SECONDS = 600.0  # one that sent what no honest peer sends

_RingKey = tuple[int, tuple[Draft, ...]] | None


class SmallSite:
    """Answers for one endpoint. Orders are worked out once for each schedule, views once for each look."""

    def __init__(self, board: Board, identity: Identity, timing: Timing) -> None:
        self._board = board
        self._identity = identity
        self._timing = timing
        self._known: Trusted | None = None
        self._members: tuple[Member, ...] = ()
        self._rings: tuple[Ring, ...] = ()
        self._offers: Mapping[str, Offer] = {}
        self._keys: dict[str, int] = {}  # ring keys by manifest, for the schedule in hand
        self._numbers: dict[_RingKey, int] = {}
        self._ranked: dict[tuple[int, int], tuple[str, ...]] = {}
        self._shunned: dict[str, tuple[float, float | None]] = {}  # device: until when; its sighting that this is about
        self._began: float | None = None  # when something was trusted: before that nobody can be recognised
        self._moved_at: list[float] = [0.0] * STRIPES
        self._first: dict[tuple[int, int], tuple[str, float]] = {}  # who is the first of those there, and since when

    def look(self) -> None:
        """Take in what is trusted now; before `ring_key` and `view`."""
        trusted = self._board.trusted.value
        if trusted is None or trusted is self._known:
            return
        if self._began is None:
            self._began = trio.current_time()
        members = trusted.schedule.members if trusted.schedule is not None else ()
        if (members, trusted.policy.rings) != (self._members, self._rings):
            self._members, self._rings, self._ranked = members, trusted.policy.rings, {}
            self._first, self._numbers = {}, {}
        self._offers = {offer.manifest_sha256: offer for offer in trusted.schedule.offers} if trusted.schedule else {}
        self._keys = {}
        self._known = trusted

    def ring_key(self, manifest_sha256: str) -> int:
        """Equal for releases that the same members may have: their offers have the same open rings and drafts."""
        if manifest_sha256 not in self._keys:
            offer = self._offers.get(manifest_sha256)
            terms = (offer.open_rings, offer.drafted) if offer is not None else None
            self._keys[manifest_sha256] = self._numbers.setdefault(terms, len(self._numbers))
        return self._keys[manifest_sha256]

    def view(self, stripe: int, manifest_sha256: str, *, wanted_since: float) -> StripeView:
        """The stripe's members for a release, and who of them is there. Nobody is late before there is a want."""
        now, key = trio.current_time(), (stripe, self.ring_key(manifest_sha256))
        if key not in self._ranked:
            self._ranked[key] = rank(rank_key(stripe), self._eligible(manifest_sha256))
        me, ranked = self._identity.device, self._ranked[key]
        live = tuple(sorted((d for d in ranked if d == me or self.can_ask(d, now)), key=self._stands_aside))
        if key not in self._first or live[0] != self._first[key][0]:
            self._first[key] = live[0], now  # whoever has just come to be the first has not been silent yet
        return StripeView(
            me=me,
            live=live,
            is_first=ranked[0] == me,
            is_whole=len(live) == len(ranked),
            listening_since=self._listening_since(now),
            last_progress=max(self._moved_at[stripe], self._first[key][1], wanted_since),
        )

    def _stands_aside(self, device: str) -> bool:
        """Whether it brings the site nothing from the origin now: then it comes after all who may."""
        if device == self._identity.device:
            return not self._board.passage.value.serves_the_site
        peer = self.peer(device)
        return peer is not None and peer.is_aside

    def moved(self, stripe: int) -> None:
        """Others have brought something of the stripe."""
        self._moved_at[stripe] = trio.current_time()

    def moved_at(self, stripe: int) -> float:
        """When others last brought something of the stripe."""
        return self._moved_at[stripe]

    def peer(self, device: str) -> Peer | None:
        """How to reach a device, if it is still there."""
        return self._board.peers.value.get(device)

    def shun(self, device: str, *, is_hostile: bool) -> None:
        """Leave a peer alone: one that failed, until it announces itself anew; one that lied, whatever it says."""
        peer, seconds = self.peer(device), HOSTILE_SECONDS if is_hostile else FAILED_SECONDS
        sighting = peer.seen_at if peer is not None and not is_hostile else None
        self._shunned[device] = trio.current_time() + seconds, sighting

    def can_ask(self, device: str, now: float) -> bool:
        """Whether a peer is there, has a mirror, and is not shunned."""
        peer = self.peer(device)
        if peer is None or peer.mirror is None:
            return False
        until, sighting = self._shunned.get(device, (now, None))
        if now < until and sighting in (None, peer.seen_at):
            return False
        self._shunned.pop(device, None)
        return True

    def seconds_to_next_pardon(self, now: float) -> float:
        """Until a shunned peer may be asked again; infinity if there is none."""
        self._shunned = {device: (until, seen) for device, (until, seen) in self._shunned.items() if now < until}
        return min((until - now for until, _ in self._shunned.values()), default=float("inf"))

    def _listening_since(self, now: float) -> float:
        """A LAN that cannot be listened to holds nobody up for longer than one that is silent."""
        began = now if self._began is None else self._began
        return min(self._board.listening_since.value, began + self._timing.settle)

    def _eligible(self, manifest_sha256: str) -> list[Member]:
        """Those whose ring may have the release; always with this endpoint itself."""
        me, offer = self._identity.device, self._offers.get(manifest_sha256)
        found = {me: Member(device=me)}
        for member in self._members:
            is_open = offer and self._known and ring_is_open(member.device, offer, self._known.policy)
            if member.device == me or is_open:
                found[member.device] = member
        return list(found.values())
