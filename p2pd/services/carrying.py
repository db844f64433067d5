# SPDX-License-Identifier: Apache-2.0
"""The torrents that this endpoint takes part in: being fetched, or kept for others after they are complete."""

import math

import trio

from p2pd.decisions.ambassadors import Timing
from p2pd.decisions.eligibility import Refusal
from p2pd.host.backoff import restart_delay
from p2pd.host.exception_groups import first_of_group
from p2pd.host.telemetry import log
from p2pd.host.torrent_file import read_torrent
from p2pd.ports import Origin, PayloadStoreFull, Swarm, TorrentSpec, TransferFailed
from p2pd.ports_control import PayloadStore, Trust
from p2pd.services.fetching import Filler, Received, Release, introduce
from p2pd.services.metrics import AgentMetrics
from p2pd.services.site import Board, Identity
from signing.errors import ContentMismatch, SigningError
from signing.reasons import Reason

MAX_CARRIED = 256

_log = log("carrying")


class Carriage:
    """One release on its way. `finished` is set when it is complete on disk, or when `refusal` says why not."""

    def __init__(self, release: Release) -> None:
        self.release = release
        self.received = Received()
        self.finished = trio.Event()
        self.refusal: Refusal | None = None
        self.scope = trio.CancelScope()

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
        self._carried: dict[str, Carriage] = {}
        self._new, self._starting = trio.open_memory_channel[Carriage](MAX_CARRIED)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Carry whatever `carry` is told to, for ever."""
        async with trio.open_nursery() as nursery:
            task_status.started()
            async for carriage in self._starting:
                nursery.start_soon(self._run_one, carriage)

    def carry(self, release: Release) -> Carriage:
        """Begin to carry a release, or go on. Never blocks."""
        digest = release.transport.content.sha256
        carriage = self._carried.get(digest)
        if carriage is None or carriage.refusal is not None:
            carriage = Carriage(release)
            try:
                self._new.send_nowait(carriage)
            except trio.WouldBlock:
                carriage.finish(Refusal(reason=Reason.BUSY, detail=f"{MAX_CARRIED} releases are being started"))
                return carriage
            self._carried[digest] = carriage
        return carriage

    def find(self, digest: str) -> Carriage | None:
        """The carriage of that transport, if there is one."""
        return self._carried.get(digest)

    @property
    def digests(self) -> frozenset[str]:
        """Transports being carried now."""
        return frozenset(self._carried)

    def drop(self, digest: str) -> None:
        """Stop carrying; what is on disk stays."""
        carriage = self._carried.pop(digest, None)
        if carriage is not None:
            carriage.finish(Refusal(reason=Reason.SUPERSEDED))
            carriage.scope.cancel()

    async def _run_one(self, carriage: Carriage) -> None:
        info_hash = carriage.release.torrent.info_hash
        with carriage.scope:
            try:
                await self._transfer_until_dropped(carriage)
            except* (SigningError, PayloadStoreFull) as problems:
                problem = first_of_group(problems)
                carriage.finish(Refusal(reason=problem.reason, detail=str(problem)))
                _log.warning("release not carried", reason=problem.reason, why=str(problem))
        self._board.carried.set(self._board.carried.value - {info_hash})

    async def _transfer_until_dropped(self, carriage: Carriage) -> None:
        """A torrent whose files went wrong is begun anew: what is good on disk is found again."""
        failures = 0
        while True:
            try:
                await self._transfer(carriage)
            except* PayloadStoreFull:
                raise
            except* TransferFailed as problems:
                failures += 1
                _log.warning("transfer begins anew", why=str(first_of_group(problems)))
            await trio.sleep(restart_delay(failures))

    async def _transfer(self, carriage: Carriage) -> None:
        spec = await self._spec(carriage.release)
        began = trio.current_time()
        async with self._swarm.transfer(spec) as transfer, trio.open_nursery() as nursery:
            self._board.carried.set(self._board.carried.value | {spec.info_hash})
            nursery.start_soon(introduce, spec.info_hash, transfer, self._board)
            filler = Filler(
                carriage.release,
                transfer,
                carriage.received,
                origin=self._origin,
                board=self._board,
                identity=self._identity,
                metrics=self._metrics,
                timing=self._timing,
            )
            await filler.fill()
            self._metrics.transfer_seconds.observe(trio.current_time() - began)
            carriage.finish(None)
            await trio.sleep(math.inf)

    async def _spec(self, release: Release) -> TorrentSpec:
        """The verified torrent, checked against the manifest: both are signed, and must tell the same story."""
        manifest, content = release.manifest.manifest, release.transport.content
        await self._store.make_room(content.sha256, content.size)
        torrent = await self._trust.torrent(release.manifest)
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
        )
