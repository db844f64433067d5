# SPDX-License-Identifier: Apache-2.0
"""Fills one torrent: from LAN peers by itself, from the origin only when the site's rules say that it is our turn."""

from contextlib import aclosing
from dataclasses import dataclass, field, replace

import trio

from p2pd.decisions.ambassadors import Fetch, SiteView, Timing, Wait, decide_role, peers_are_trusted, rank
from p2pd.decisions.eligibility import ring_is_open
from p2pd.decisions.stripes import PieceRun, entry_point, next_run
from p2pd.host.backoff import restart_delay
from p2pd.host.latest import Latest, first_of
from p2pd.host.telemetry import log
from p2pd.ports import Origin, OriginFailure, Transfer, TransferProgress, peer_id_of
from p2pd.services.metrics import AgentMetrics
from p2pd.services.site import Board, Identity
from signing.manifest import SegmentTorrent, Transport
from signing.reasons import Reason
from signing.schedule import Member
from signing.verified import VerifiedManifest

LONGEST_RUN_BYTES = 8 * 2**20  # one range request: long enough to hide its round trip, short enough to hand over
EXPECTED_SECONDS = 10.0  # how long an announcement counts as a life sign before a handshake must have followed

_log = log("fetching")


@dataclass(frozen=True, kw_only=True)
class Release:
    """A verified release and the transport that this endpoint uses."""

    manifest: VerifiedManifest
    transport: Transport
    torrent: SegmentTorrent


@dataclass
class Received:
    """Payload bytes by source so far, and why nothing moves, if nothing does."""

    lan: int = 0
    origin: int = 0
    web: int = 0
    waiting: Latest[Reason | None] = field(default_factory=lambda: Latest[Reason | None](None))


class Filler:
    """One torrent's way from empty to complete."""

    def __init__(
        self,
        release: Release,
        transfer: Transfer,
        received: Received,
        *,
        origin: Origin,
        board: Board,
        identity: Identity,
        metrics: AgentMetrics,
        timing: Timing,
    ) -> None:
        self._release = release
        self._transfer = transfer
        self._received = received
        self._origin = origin
        self._board = board
        self._identity = identity
        self._metrics = metrics
        self._timing = timing
        self._began = trio.current_time()
        self._lan_before = received.lan  # by earlier transfers of this torrent; each counts from nothing
        self._brought = 0  # pieces that are here from the origin …
        self._introduced = 0  # … and those of them that no peer had
        self._others_have, self._others_offered, self._others_moved_at = 0, 0, self._began
        self._first = ""  # in rank, of those that live
        self._served_at = self._began  # when peers last sent something, or had nothing to send
        self._failures, self._origin_again_at = 0, self._began

    async def fill(self) -> None:
        """Return once every piece is verified and on disk."""
        peers, trusted = self._board.peers.watch(), self._board.trusted.watch()
        while True:
            progress = self._transfer.progress()
            self._observe(progress)
            if progress.is_complete:
                self._say(None)
                return
            wait = await self._step(progress)
            if wait is not None:
                await first_of(self._transfer.changed, peers.changed, trusted.changed, seconds=wait)

    async def _step(self, progress: TransferProgress) -> float | None:
        """Do what the rules allow now; the seconds to wait for news afterwards, None to look again at once."""
        now = trio.current_time()
        role = decide_role(self._view(progress), now=now, timing=self._timing)
        if isinstance(role, Wait):
            self._say(role.reason)
            return max(role.until - now, 0.01)
        run = self._next_run(progress, role, now)
        if run is None:
            self._say(None)
            return self._timing.stall
        if now < self._origin_again_at:  # news of peers come often, and must not cut the pause short
            return self._origin_again_at - now
        self._say(role.reason)
        try:
            await self._fetch(run, progress)
        except OriginFailure as failure:
            self._failures += 1
            self._say(failure.reason)
            _log.warning("the origin failed", reason=failure.reason, why=str(failure))
            self._origin_again_at = trio.current_time() + restart_delay(self._failures)
            return restart_delay(self._failures)
        self._failures = 0
        return None

    def _view(self, progress: TransferProgress) -> SiteView:
        me, now = self._identity.device, trio.current_time()
        members = self._members()
        by_peer_id = {peer_id_of(member.device): member.device for member in members}
        info_hash = self._release.torrent.info_hash
        connected = frozenset(by_peer_id[peer] for peer in progress.peers if peer in by_peer_id)
        expected = {
            peer.device: peer.seen_at + EXPECTED_SECONDS
            for peer in self._board.peers.value.values()
            if info_hash in peer.info_hashes and peer.device not in connected
        }
        view = SiteView(
            me=me,
            ranked=rank(info_hash, members),
            connected=connected,
            expected={device: until for device, until in expected.items() if until > now},
            watching_since=self._began,
            last_progress=self._others_moved_at,
        )
        if view.live[0] == self._first:
            return view
        # Whoever has just come to be the first has not been silent yet.
        self._first, self._others_moved_at = view.live[0], now
        return replace(view, last_progress=now)

    def _members(self) -> tuple[Member, ...]:
        """Those of the site whose ring may have this release; always with this endpoint itself."""
        trusted, me = self._board.trusted.value, self._identity.device
        members: dict[str, Member] = {me: Member(device=me)}
        if trusted is not None and trusted.schedule is not None:
            sha256 = self._release.manifest.sha256
            offer = next((o for o in trusted.schedule.offers if o.manifest_sha256 == sha256), None)
            for member in trusted.schedule.members:
                if member.device == me or (offer and ring_is_open(member.device, offer, trusted.policy)):
                    members[member.device] = member
        return tuple(members.values())

    def _next_run(self, progress: TransferProgress, role: Fetch, now: float) -> PieceRun | None:
        peers_have = progress.peers_have
        if not peers_are_trusted(last_gain=self._served_at, now=now, timing=self._timing):
            peers_have = [False] * progress.piece_count
        return next_run(
            me=self._identity.device,
            ambassadors=role.ambassadors,
            have=progress.have,
            peers_have=peers_have,
            longest=max(1, LONGEST_RUN_BYTES // progress.piece_bytes),
            start_at=entry_point(self._identity.device, progress.piece_count) if role.is_takeover else 0,
        )

    async def _fetch(self, run: PieceRun, progress: TransferProgress) -> None:
        start = run.first * progress.piece_bytes
        length = min(run.count * progress.piece_bytes, progress.total_bytes - start)
        piece, buffer = run.first, bytearray()
        async with aclosing(self._origin.ranges(self._release.transport.content.sha256, start, length)) as chunks:
            async for chunk in chunks:
                self._count(len(chunk))
                buffer += chunk
                while len(buffer) >= self._piece_size(piece, progress) and piece < run.first + run.count:
                    size = self._piece_size(piece, progress)
                    await self._hand_over(piece, bytes(buffer[:size]))
                    del buffer[:size]
                    piece += 1
                    if piece < run.first + run.count and not self._is_missing(piece):
                        return  # somebody else brings the same pieces: leave the rest to them
        if piece < run.first + run.count:
            raise OriginFailure(
                Reason.ORIGIN_REFUSED, f"the origin sent {len(buffer)} bytes of piece {piece} and stopped"
            )

    async def _hand_over(self, piece: int, data: bytes) -> None:
        before = self._transfer.progress()
        if not await self._transfer.add_piece(piece, data):
            raise OriginFailure(Reason.ORIGIN_REFUSED, f"piece {piece} from the origin has the wrong hash")
        if not before.have[piece]:
            self._brought += 1
            self._introduced += not before.peers_have[piece]
        self._observe(self._transfer.progress())

    def _is_missing(self, piece: int) -> bool:
        progress = self._transfer.progress()
        trusted = peers_are_trusted(last_gain=self._served_at, now=trio.current_time(), timing=self._timing)
        return not progress.have[piece] and not (trusted and progress.peers_have[piece])

    def _piece_size(self, piece: int, progress: TransferProgress) -> int:
        return min(progress.piece_bytes, progress.total_bytes - piece * progress.piece_bytes)

    def _count(self, count: int) -> None:
        if self._origin.source == "web":
            self._received.web += count
        else:
            self._received.origin += count
        self._metrics.received(self._origin.source, count)

    def _observe(self, progress: TransferProgress) -> None:
        """Note when others last moved anything: what this endpoint brings itself is no sign of life of theirs."""
        now = trio.current_time()
        have = sum(progress.have)
        available = sum(here or there for here, there in zip(progress.have, progress.peers_have, strict=True))
        others_have, others_offered = have - self._brought, available - self._introduced
        if others_have > self._others_have or others_offered > self._others_offered:
            self._others_moved_at = now
        self._others_have = max(self._others_have, others_have)
        self._others_offered = max(self._others_offered, others_offered)
        lan = self._lan_before + progress.bytes_lan
        if lan > self._received.lan or available == have:
            self._served_at = now
        self._metrics.received("lan", lan - self._received.lan)
        self._received.lan = lan

    def _say(self, reason: Reason | None) -> None:
        if reason is not None and reason is not self._received.waiting.value:
            self._metrics.refused(reason.value)
        self._received.waiting.set(reason)


async def introduce(info_hash: str, transfer: Transfer, board: Board) -> None:
    """Dial every peer that announces this torrent, as they come."""
    peers = board.peers.watch()
    while True:
        for peer in board.peers.value.values():
            if info_hash in peer.info_hashes:
                transfer.connect(peer.endpoint)
        await peers.changed()
