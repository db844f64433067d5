# SPDX-License-Identifier: Apache-2.0
"""What one endpoint sees of one torrent's swarm: who may fetch it, who is there, and when something last moved.

Turns the board's sightings and the torrent's connections into the `SiteView` that decisions are made of. No I/O.
"""

import math
from collections import deque
from collections.abc import Mapping

from p2pd.decisions.ambassadors import SiteView, Timing, peers_are_trusted, rank
from p2pd.decisions.eligibility import ring_is_open
from p2pd.decisions.silence import Fronts
from p2pd.decisions.stripes import divide
from p2pd.piece_set import NO_PIECES, PieceSet
from p2pd.ports import TransferProgress, peer_id_of
from p2pd.ports_control import Trusted
from p2pd.services.site import Board, Identity
from signing.reasons import Reason
from signing.schedule import Member

PACE_SECONDS = 1.0  # between two notes of what peers have sent
EXPECTED_SECONDS = 10.0  # how long an announcement counts as a life sign before a handshake must have followed
DOUBT_AGAIN_SECONDS = 20.0  # it answered then
JOIN_SECONDS = 4.0  # how long one who is on the LAN may take to hear of a release that we have just heard of


class SwarmView:
    """One torrent's swarm from `began` on; moments are trio's."""

    def __init__(
        self, *, info_hash: str, manifest_sha256: str, board: Board, identity: Identity, timing: Timing, began: float
    ) -> None:
        self._info_hash = info_hash
        self._manifest_sha256 = manifest_sha256
        self._board = board
        self._me = identity.device
        self._timing = timing
        self._began = began
        self._ranked_for: Trusted | None = None
        self._ranked: tuple[str, ...] = (identity.device,)
        self._by_peer_id: Mapping[bytes, str] = {}
        self._connected: frozenset[str] = frozenset()
        self._lost_at: dict[str, float] = {}
        self._brought = NO_PIECES  # pieces that are here from the origin …
        self._introduced = NO_PIECES  # … and those of them that no peer had
        self._others_have, self._others_offered, self._others_moved_at = 0, 0, began
        self._first = ""  # in rank, of those that live and fetch
        self._served_at = began  # when peers last sent something, or had nothing to send
        self._bytes_lan = 0
        self._paces: deque[tuple[float, int]] = deque()  # of bytes from peers, while they offer something
        self._had_it_before = self._announcing()
        self._fronts = Fronts()
        self._doubted_at: dict[str, float] = {}

    def bring(self, piece: int, before: TransferProgress) -> None:
        """A piece came from the origin: no sign of life of anybody else's. `before` is the progress without it."""
        if piece not in before.have:
            self._brought |= PieceSet(1 << piece)
            if piece not in before.peers_have:
                self._introduced |= PieceSet(1 << piece)

    @property
    def introduced(self) -> PieceSet:
        """The pieces that came to the peers through this endpoint."""
        return self._introduced

    def observe(self, progress: TransferProgress, *, now: float) -> None:
        """Note when others last moved anything."""
        here = progress.have - self._brought
        offered = (progress.have | progress.peers_have) - self._introduced
        if len(here) > self._others_have or len(offered) > self._others_offered:
            self._others_moved_at = now
        self._others_have = max(self._others_have, len(here))
        self._others_offered = max(self._others_offered, len(offered))
        if progress.bytes_lan > self._bytes_lan or not progress.peers_have - progress.have:
            self._served_at = now
        self._bytes_lan = progress.bytes_lan
        if not progress.peers_have - progress.have:
            self._paces.clear()
        elif not self._paces or now >= self._paces[-1][0] + PACE_SECONDS:
            self._paces.append((now, progress.bytes_lan))

    def offered(self, progress: TransferProgress, *, now: float) -> PieceSet:
        """The pieces that can be left to peers."""
        trusted = peers_are_trusted(
            last_gain=self._served_at,
            pace=self._pace(now),
            offered_bytes=len(progress.peers_have - progress.have) * progress.piece_bytes,
            now=now,
            timing=self._timing,
        )
        return progress.peers_have if trusted else NO_PIECES

    def _pace(self, now: float) -> float:
        """Bytes per second from peers over the last two stalls in which they offered something."""
        since = now - 2 * self._timing.stall
        while len(self._paces) > 1 and self._paces[1][0] <= since:
            self._paces.popleft()
        if not self._paces or self._paces[0][0] > since:
            return math.inf
        began, count = self._paces[0]
        return (self._bytes_lan - count) / (now - began)

    def silent(self, ambassadors: tuple[str, ...], progress: TransferProgress, *, now: float) -> frozenset[str]:
        """Those who owe the next piece of their stripe for too long; who helps them begins at its end."""
        stripes = divide(ambassadors, progress.piece_count).stripes
        self._fronts.look(stripes, progress.have | progress.peers_have, now=now)
        return self._fronts.silent(me=self._me, now=now, stall=self._timing.stall)

    def doubtful(self, silent: frozenset[str], *, now: float) -> frozenset[str]:
        """Those of the silent ones that only their announcement speaks for, if they were not doubted a while ago.

        Its neighbours see within seconds that an ambassador is gone. Everybody else would go on to divide with it.
        """
        unseen = silent - self._connected
        found = {device for device in unseen if now >= self._doubted_at.get(device, -math.inf) + DOUBT_AGAIN_SECONDS}
        self._doubted_at |= dict.fromkeys(found, now)
        return frozenset(found)

    def excuse(self, *, now: float) -> None:
        """The origin fails us, and most likely everybody: silence says nothing of the others."""
        self._others_moved_at = now
        self._fronts.excuse(now=now)

    def site(self, progress: TransferProgress, *, now: float) -> SiteView:
        """The view of now."""
        self._rank()
        connected = frozenset(self._by_peer_id[peer] for peer in progress.peers if peer in self._by_peer_id)
        for device in self._connected - connected:
            self._lost_at[device] = now
        self._connected = connected
        expected, carriers, whole = self._announced(now)
        passage = self._board.passage.value
        view = SiteView(
            me=self._me,
            ranked=self._ranked,
            connected=connected,
            expected=expected,
            carriers=carriers,
            whole=whole,
            listening_since=self._listening_since,
            began=self._began,
            last_progress=self._others_moved_at,
            aside=self._aside(),
            barred=passage.reason if not passage.may_fetch else None,
        )
        first = next(iter(view.fetchers), "")
        if first != self._first:  # whoever has just come to be the first has not been silent yet
            self._first, self._others_moved_at = first, now
            return self.site(progress, now=now)
        return view

    @property
    def _listening_since(self) -> float:
        """A LAN that cannot be listened to at all must not keep a patch waiting for it."""
        return min(self._board.listening_since.value, self._began + self._timing.settle)

    def _announced(self, now: float) -> tuple[Mapping[str, float], frozenset[str], frozenset[str]]:
        """Who is on the LAN without being connected: until when that counts, and who of them may have pieces.

        And who of all says that it has all pieces.
        """
        expected: dict[str, float] = {}
        carriers, whole = set(), set()
        links = self._board.links.value.get(self._info_hash, {})
        if now < self._listening_since + self._timing.settle:
            self._had_it_before |= self._announcing()
        for device in self._ranked:
            peer = self._board.peers.value.get(device)
            if peer is not None and device in self._connected and self._info_hash in peer.whole:
                whole.add(device)
            if peer is None or device in self._connected or peer.seen_at <= self._lost_at.get(device, -1.0):
                continue
            carries = self._info_hash in peer.info_hashes
            until = max(peer.seen_at, self._began) + (EXPECTED_SECONDS if carries else JOIN_SECONDS)
            link = links.get(device)
            if link is not None and link.reason is Reason.PEER_NOT_NEEDED:
                until = math.inf  # its own neighbours watch it; here its announcement has to do
            elif link is not None and link.reason is not None:
                continue  # it was dialled, or connected, in vain
            if until <= now:
                continue
            expected[device] = until
            if carries and device in self._had_it_before:
                carriers.add(device)
            if self._info_hash in peer.whole and until < math.inf:
                whole.add(device)
        return expected, frozenset(carriers), frozenset(whole)

    def _aside(self) -> frozenset[str]:
        """Those who bring the site nothing from the origin now, as they say; and as we know of ourselves."""
        aside = {peer.device for peer in self._board.peers.value.values() if peer.is_aside}
        if not self._board.passage.value.serves_the_site:
            aside.add(self._me)
        return frozenset(aside)

    def _announcing(self) -> frozenset[str]:
        peers = self._board.peers.value.values()
        return frozenset(peer.device for peer in peers if self._info_hash in peer.info_hashes)

    def _rank(self) -> None:
        """Those of the site whose ring may have this release; always with this endpoint itself."""
        trusted = self._board.trusted.value
        if trusted is self._ranked_for:
            return
        self._ranked_for = trusted
        members: dict[str, Member] = {self._me: Member(device=self._me)}
        if trusted is not None and trusted.schedule is not None:
            offer = next((o for o in trusted.schedule.offers if o.manifest_sha256 == self._manifest_sha256), None)
            for member in trusted.schedule.members:
                if member.device == self._me or (offer and ring_is_open(member.device, offer, trusted.policy)):
                    members[member.device] = member
        self._ranked = rank(self._info_hash, members.values())
        self._by_peer_id = {peer_id_of(device): device for device in members}
