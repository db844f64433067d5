# SPDX-License-Identifier: Apache-2.0
"""Fills one torrent: from LAN peers by itself, from the origin only when the site's rules say that it is our turn."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio

from p2pd.decisions.ambassadors import (
    Fetch,
    SiteView,
    Timing,
    Wait,
    ambassador_count,
    decide_role,
    is_stalled,
)
from p2pd.decisions.request_window import LOOK_SECONDS
from p2pd.decisions.spreading import Backlog
from p2pd.decisions.stripes import PieceRun, entry_point, next_run
from p2pd.host.latest import Latest
from p2pd.host.telemetry import log
from p2pd.piece_set import PieceSet
from p2pd.ports import Origin, Transfer, TransferProgress
from p2pd.ports_control import StorageFailed
from p2pd.services.lan_sharing import LanShare
from p2pd.services.measuring import Measuring
from p2pd.services.metrics import AgentMetrics
from p2pd.services.origin_leg import OriginLeg
from p2pd.services.origin_sharing import OriginSharing
from p2pd.services.site import Board, Identity
from p2pd.services.swarm_view import SwarmView
from signing.manifest import SegmentTorrent, Transport
from signing.reasons import Reason
from signing.report import Measured
from signing.verified import VerifiedManifest

_log = log("fetching")

LEAST_PAUSE = 0.01  # what is due a rounding error from now is not waited for in circles
BACKLOG_SECONDS = 0.25  # until it is asked again whether peers have taken what was brought
READ_AHEAD_BYTES = 8 * 2**20
LEAST_GUARD = 4  # pieces of another's stripe that are left to it, as being on their way


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
    measured: Measured | None = None  # by the transfer that completed it
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
        sharing: OriginSharing,
        lan_share: LanShare,
        read_ahead: Callable[[int], Awaitable[None]],
    ) -> None:
        """`read_ahead` verifies what is on disk up to an offset, so that little is left to read at the end."""
        self._read_ahead = read_ahead
        self._has_read, self._is_reading = 0, False
        self._lan_share = lan_share
        self._transfer = transfer
        self._received = received
        self._board = board
        self._info_hash = release.torrent.info_hash
        self._me = identity.device
        self._metrics = metrics
        self._timing = timing
        self._began = trio.current_time()
        self._swarm = SwarmView(
            info_hash=release.torrent.info_hash,
            manifest_sha256=release.manifest.sha256,
            board=board,
            identity=identity,
            timing=timing,
            began=self._began,
        )
        self._leg = OriginLeg(
            release.transport.content.sha256,
            transfer,
            origin,
            on_bytes=self._count,
            on_piece=self._swarm.bring,
            is_missing=self._is_missing,
            sharing=sharing,
            severity=release.manifest.manifest.severity,
            round_trip=board.origin_round_trip,
        )
        self._backlog = Backlog()
        self._measuring = Measuring(transfer, board)
        self._lan_before = received.lan  # by earlier transfers of this torrent; each counts from nothing
        self._stirred = trio.Event()

    async def fill(self) -> None:
        """Return once every piece is verified and on disk. Raises TransferFailed, in a group."""
        try:
            await self._fill()
        finally:
            self._board.fetching.pop(self._info_hash, None)
            self._leg.close()

    async def _fill(self) -> None:
        async with trio.open_nursery() as nursery:
            for wait in (
                self._transfer.changed,
                self._board.peers.watch().changed,
                self._board.trusted.watch().changed,
                self._board.passage.watch().changed,
                self._leg.changed,
            ):
                nursery.start_soon(self._stir, wait)
            nursery.start_soon(self._try_from_elsewhere)
            while True:
                progress = self._transfer.progress()
                self._observe(progress)
                if progress.is_complete:
                    self._received.measured = self._measuring.measured()
                    self._say(None)
                    nursery.cancel_scope.cancel()
                    return
                self._read_back(progress, nursery)
                pause = self._step(progress, nursery)
                with trio.move_on_after(pause):
                    await self._stirred.wait()
                self._stirred = trio.Event()

    def _read_back(self, progress: TransferProgress, nursery: trio.Nursery) -> None:
        """Begin to read the next part of the transport's beginning, if it is on disk and no other is being read."""
        final = progress.on_disk.run_at(0, progress.piece_count) * progress.piece_bytes
        if final >= self._has_read + READ_AHEAD_BYTES and not self._is_reading:
            self._is_reading = True
            nursery.start_soon(self._read_until, self._has_read + READ_AHEAD_BYTES)

    async def _read_until(self, offset: int) -> None:
        try:
            await self._read_ahead(offset)
        except StorageFailed as problem:
            _log.info("not read ahead", why=str(problem))  # verification reads it again, and says what is wrong
            return
        self._has_read, self._is_reading = offset, False
        self._stirred.set()

    async def _try_from_elsewhere(self) -> None:
        """On another network the origin may be reached at once."""
        here = self._board.here.watch()
        while True:
            await here.changed()
            self._leg.forgive()
            self._stirred.set()

    async def _stir(self, wait: Callable[[], Awaitable[None]]) -> None:
        while True:
            await wait()
            self._stirred.set()

    def _step(self, progress: TransferProgress, nursery: trio.Nursery) -> float:
        """Begin the requests that the rules allow now; the seconds until they may allow more without any news."""
        now = trio.current_time()
        if self._leg.is_failing or self._leg.is_outranked:
            self._swarm.excuse(now=now)
        if now < self._leg.again_at:
            self._leg.stand_by(is_fetched=False)
            self._say(self._leg.failure)
            return max(self._leg.again_at - now, LEAST_PAUSE)
        site = self._swarm.site(progress, now=now)
        trusted = self._board.trusted.value
        count = ambassador_count(
            live=len(site.live),
            piece_count=progress.piece_count,
            piece_bytes=progress.piece_bytes,
            rates=trusted.schedule.rates if trusted is not None and trusted.schedule is not None else None,
        )
        role = decide_role(site, now=now, timing=self._timing, ambassador_count=count)
        self._note_fetching(progress, site, role, count)
        is_fetched = self._is_fetched(progress, site, now)
        if isinstance(role, Wait):
            self._leg.stand_by(is_fetched=is_fetched)
            is_patient = role.reason is Reason.WAITING_FOR_AMBASSADOR
            self._say(self._severe_first or role.reason if is_patient else role.reason)
            return max(role.until - now, LEAST_PAUSE)
        is_ahead = self._backlog.holds(self._swarm.introduced, progress.spread, now=now)
        while self._leg.has_room and not is_ahead:
            run = self._next_run(progress, site, role, now)
            if run is None:
                self._leg.stand_by(is_fetched=is_fetched or self._leg.is_busy)
                break
            nursery.start_soon(self._leg.bring, run, progress)
            self._leg.begin(run)
        self._leg.look(now)
        reason = role.reason if self._leg.is_busy else None
        self._say(self._leg.failure if self._leg.is_failing else self._severe_first or reason)
        return BACKLOG_SECONDS if is_ahead else LOOK_SECONDS

    def _note_fetching(self, progress: TransferProgress, site: SiteView, role: Fetch | Wait, count: int) -> None:
        """Say who may fetch it: the ambassadors and, if this endpoint takes over, all whose turn came before."""
        me, fetchers = frozenset[str](), site.fetchers[:count]
        if isinstance(role, Fetch):
            me, fetchers = frozenset([site.me]), site.fetchers[: max(count, site.place)]
        is_at_site = len(progress.have | progress.peers_have) == progress.piece_count
        self._board.fetching[self._info_hash] = me | frozenset(() if is_at_site and not me else fetchers)

    @property
    def _severe_first(self) -> Reason | None:
        """Why little of this comes while a more severe patch has the WAN, or the LAN."""
        return Reason.MORE_SEVERE_FIRST if self._leg.is_outranked or self._lan_share.is_restrained else None

    def _next_run(self, progress: TransferProgress, site: SiteView, role: Fetch, now: float) -> PieceRun | None:
        everything = PieceSet.first(progress.piece_count)
        wanted = everything - progress.have - self._swarm.offered(progress, now=now) - self._leg.under_way
        if not wanted:
            return None
        longest = self._leg.run_pieces(progress)
        takes_over = role.is_takeover
        if not takes_over:
            silent = self._swarm.silent(role.ambassadors, progress, now=now)
            for device in self._swarm.doubtful(silent, now=now):
                self._board.doubt(device)
            run = next_run(
                me=self._me,
                ambassadors=role.ambassadors,
                piece_count=progress.piece_count,
                wanted=wanted,
                longest=longest,
                guard=max(LEAST_GUARD, (self._leg.limit + 1) * longest),
                silent=silent,
            )
            if run is not None or self._leg.is_busy or not is_stalled(site, now=now, timing=self._timing):
                return run
        return next_run(
            me=self._me,
            ambassadors=(self._me,),
            piece_count=progress.piece_count,
            wanted=wanted,
            longest=longest,
            start_at=entry_point(self._me, progress.piece_count),
        )

    def _is_fetched(self, progress: TransferProgress, site: SiteView, now: float) -> bool:
        """Whether others of the site seem to bring what it lacks, so that less severe patches leave them the link."""
        has_all = len(progress.have | progress.peers_have) == progress.piece_count
        return not has_all and now < site.last_progress + self._timing.stall

    def _is_missing(self, piece: int) -> bool:
        progress = self._transfer.progress()
        return piece not in progress.have and piece not in self._swarm.offered(progress, now=trio.current_time())

    def _count(self, source: str, count: int) -> None:
        if source == "web":
            self._received.web += count
        else:
            self._received.origin += count
        self._metrics.received(source, count)

    def _observe(self, progress: TransferProgress) -> None:
        self._swarm.observe(progress, now=trio.current_time())
        self._lan_share.note()
        self._measuring.look(progress, from_origin=self._received.origin + self._received.web)
        lan = self._lan_before + progress.bytes_lan
        self._metrics.received("lan", lan - self._received.lan)
        self._leg.note_received(lan - self._received.lan)
        self._received.lan = lan

    def _say(self, reason: Reason | None) -> None:
        if reason is not None and reason is not self._received.waiting.value:
            self._metrics.refused(reason.value)
        if reason is not self._received.waiting.value:
            self._received.waiting.set(reason)
