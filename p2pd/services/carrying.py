# SPDX-License-Identifier: Apache-2.0
"""The torrents that this endpoint takes part in: being fetched, or kept for others after they are complete."""

import hashlib
import math
from functools import partial

import trio

from p2pd.decisions.ambassadors import Timing
from p2pd.decisions.eligibility import Refusal
from p2pd.host.backoff import restart_delay
from p2pd.host.exception_groups import first_of_group
from p2pd.host.telemetry import log
from p2pd.host.torrent_file import read_torrent
from p2pd.ports import Endpoint, Origin, PayloadStoreFull, Swarm, TorrentSpec, Transfer, TransferFailed
from p2pd.ports_control import PayloadStore, StorageFailed, Trust
from p2pd.services.fetching import Filler, Received, Release
from p2pd.services.introductions import Introductions
from p2pd.services.lan_sharing import LanSharing
from p2pd.services.metrics import AgentMetrics
from p2pd.services.origin_sharing import OriginSharing
from p2pd.services.site import Board, Identity, Peer
from signing.errors import ContentMismatch, SigningError
from signing.reasons import Reason

MAX_CARRIED = 256
SAY_WHOLE_SECONDS = 5.0  # after the end: a whole site announcing it at that moment would disturb who is not there yet
PEERS_AT_ONCE = 12  # dialled before anything else; from then on `Introductions` chooses

_log = log("carrying")


class Carriage:
    """One release on its way. `finished` is set when it is complete on disk, or when `refusal` says why not.

    `ended` is set when nothing of it runs any more and nobody writes its files.
    """

    def __init__(self, release: Release, predecessor: "Carriage | None") -> None:
        self.release = release
        self.received = Received()
        self.transfer: Transfer | None = None  # the latest of it, until it has ended
        self.finished = trio.Event()
        self.ended = trio.Event()
        self.refusal: Refusal | None = None
        self.scope = trio.CancelScope()
        self.predecessor = predecessor

    @property
    def digest(self) -> str:
        """SHA-256 of the transport."""
        return self.release.transport.content.sha256

    def finish(self, refusal: Refusal | None) -> None:
        """Say how it ended, once."""
        if not self.finished.is_set():
            self.refusal = refusal
            self.finished.set()


class Carriages:
    """All carriages of this endpoint, by the digest of their transport."""

    def __init__(
        self,
        *,
        swarm: Swarm,
        origin: Origin,
        store: PayloadStore,
        trust: Trust,
        board: Board,
        identity: Identity,
        metrics: AgentMetrics,
        timing: Timing,
    ) -> None:
        self._swarm = swarm
        self._origin = origin
        self._store = store
        self._trust = trust
        self._board = board
        self._identity = identity
        self._metrics = metrics
        self._timing = timing
        self._sharing = OriginSharing()
        self._lan_sharing = LanSharing()
        self._carried: dict[str, Carriage] = {}  # what `carry` asked for and `drop` has not taken back
        self._running: set[Carriage] = set()  # those, and dropped ones that are still closing their files
        self._new, self._starting = trio.open_memory_channel[Carriage](MAX_CARRIED)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Carry whatever `carry` is told to, for ever."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._lan_sharing.run)
            task_status.started()
            async for carriage in self._starting:
                nursery.start_soon(self._run_one, carriage)

    def carry(self, release: Release) -> Carriage:
        """Begin to carry a release, or go on. Never blocks.

        A carriage that failed, or is closing since it was dropped, is followed by a new one.
        """
        digest = release.transport.content.sha256
        present = self._carried.get(digest)
        if present is not None and present.refusal is None and not present.ended.is_set():
            return present
        closing = next((carriage for carriage in self._running if carriage.digest == digest), None)
        carriage = Carriage(release, closing)
        try:
            self._new.send_nowait(carriage)
        except trio.WouldBlock:
            carriage.finish(Refusal(reason=Reason.BUSY, detail=f"{MAX_CARRIED} releases are being started"))
            return carriage
        self._carried[digest] = carriage
        self._running.add(carriage)
        return carriage

    def find(self, digest: str) -> Carriage | None:
        """The carriage of that transport, if there is one."""
        return self._carried.get(digest)

    def received(self) -> int:
        """Bytes that have come of all that is carried now."""
        return sum(one.received.lan + one.received.origin + one.received.web for one in self._carried.values())

    @property
    def digests(self) -> frozenset[str]:
        """Transports being carried now."""
        return frozenset(self._carried)

    @property
    def digests_in_use(self) -> frozenset[str]:
        """Transports whose files somebody may be writing: carried ones, and those that are still being closed."""
        return self.digests | {carriage.digest for carriage in self._running}

    def drop(self, digest: str) -> None:
        """Stop carrying; what is on disk stays."""
        carriage = self._carried.pop(digest, None)
        if carriage is not None:
            carriage.finish(Refusal(reason=Reason.SUPERSEDED))
            carriage.scope.cancel()

    async def _run_one(self, carriage: Carriage) -> None:
        info_hash = carriage.release.torrent.info_hash
        try:
            with carriage.scope:
                if carriage.predecessor is not None:  # one torrent has one set of files
                    await carriage.predecessor.ended.wait()
                await self._transfer_until_dropped(carriage)
        except* (SigningError, PayloadStoreFull, StorageFailed) as problems:
            problem = first_of_group(problems)
            carriage.finish(Refusal(reason=problem.reason, detail=str(problem)))
            _log.warning("release not carried", reason=problem.reason, why=str(problem))
        finally:
            carriage.predecessor = carriage.transfer = None
            carriage.ended.set()
            self._running.discard(carriage)
            self._board.carried.set(self._board.carried.value - {info_hash})
            self._board.complete.set(self._board.complete.value - {info_hash})

    async def _transfer_until_dropped(self, carriage: Carriage) -> None:
        """A torrent whose files went wrong is begun anew: what is good on disk is found again."""
        failures = 0
        while True:
            try:
                await self._transfer(carriage)
            except* (PayloadStoreFull, StorageFailed):
                raise
            except* TransferFailed as problems:
                failures += 1
                _log.warning("transfer begins anew", why=str(first_of_group(problems)))
            await trio.sleep(restart_delay(failures))

    async def _transfer(self, carriage: Carriage) -> None:
        spec = await self._spec(carriage.release)
        began = trio.current_time()
        severity = carriage.release.manifest.manifest.severity
        async with self._swarm.transfer(spec) as transfer:
            with self._lan_sharing.join(severity, transfer) as lan_share:
                async with trio.open_nursery() as nursery:
                    self._board.carried.set(self._board.carried.value | {spec.info_hash})
                    carriage.transfer = transfer
                    nursery.start_soon(self._introductions(spec.info_hash, transfer).run)
                    filler = Filler(
                        carriage.release,
                        transfer,
                        carriage.received,
                        origin=self._origin,
                        board=self._board,
                        identity=self._identity,
                        metrics=self._metrics,
                        timing=self._timing,
                        sharing=self._sharing,
                        lan_share=lan_share,
                        read_ahead=partial(self._store.read_ahead, carriage.digest, spec.name),
                    )
                    await filler.fill()
                    self._metrics.transfer_seconds.observe(trio.current_time() - began)
                    self._tell_complete(carriage)
                    carriage.finish(None)
                    await trio.sleep(SAY_WHOLE_SECONDS)
                    self._board.complete.set(self._board.complete.value | {spec.info_hash})
                    await trio.sleep(math.inf)

    def _tell_complete(self, carriage: Carriage) -> None:
        manifest, received = carriage.release.manifest.manifest, carriage.received
        _log.info(
            "transfer complete",
            product=manifest.product,
            version=manifest.version,
            bytes_lan=received.lan,
            bytes_origin=received.origin,
            bytes_web=received.web,
        )

    def _introductions(self, info_hash: str, transfer: Transfer) -> Introductions:
        return Introductions(info_hash, transfer, board=self._board, identity=self._identity, metrics=self._metrics)

    async def _spec(self, release: Release) -> TorrentSpec:
        """The verified torrent, checked against the manifest: both are signed, and must tell the same story."""
        manifest, content = release.manifest.manifest, release.transport.content
        await self._store.make_room(content.sha256, content.size)
        torrent = await self._trust.torrent(release.manifest, content.sha256)
        facts = read_torrent(torrent, where=release.torrent.target)
        expected = (release.torrent.info_hash, content.size, self._identity.segment)
        if (facts.info_hash, facts.size, facts.name) != expected:
            problem = ContentMismatch(
                f"torrent of {manifest.product} {manifest.version}",
                expected=str(expected),
                actual=str((facts.info_hash, facts.size, facts.name)),
            )
            problem.reason = Reason.TORRENT_MISMATCH
            raise problem
        return TorrentSpec(
            torrent=torrent,
            info_hash=release.torrent.info_hash,
            directory=self._store.directory(content.sha256),
            name=self._identity.segment,
            peers=self._first_peers(release.torrent.info_hash),
        )

    def _first_peers(self, info_hash: str) -> tuple[Endpoint, ...]:
        """Some who carry it already: others than most would choose, so that not all begin with the same ones."""

        def order(peer: Peer) -> bytes:
            return hashlib.sha256(f"{self._identity.device}\0{peer.device}".encode()).digest()

        carriers = (peer for peer in self._board.peers.value.values() if info_hash in peer.info_hashes)
        return tuple(peer.endpoint for peer in sorted(carriers, key=order)[:PEERS_AT_ONCE])
