# SPDX-License-Identifier: Apache-2.0
"""What is carried, dropped and carried again: one torrent never has two hands in its files."""

import hashlib
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from prometheus_client import CollectorRegistry
from trio.testing import wait_all_tasks_blocked

from p2pd.decisions.ambassadors import Timing
from p2pd.piece_set import NO_PIECES, PieceSet
from p2pd.ports import Endpoint, Neighbour, PayloadStoreFull, TorrentSpec, TransferProgress
from p2pd.ports_control import StorageFailed
from p2pd.services import carrying
from p2pd.services.carrying import Carriages
from p2pd.services.fetching import Release
from p2pd.services.metrics import AgentMetrics
from p2pd.services.site import Board, Identity
from signing.codec import encode
from signing.manifest import Content, Manifest, SegmentTorrent, Transport
from signing.reasons import Reason
from signing.verified import VerifiedManifest, open_manifest

CONTENT = Content(sha256="a" * 64, size=1_000)
TORRENT = SegmentTorrent(segment="office", info_hash="b" * 64, target="patches/app/1/office.torrent")
TRANSPORT = Transport(codec="zstd", content=CONTENT, torrents=(TORRENT,))


def release() -> Release:
    manifest = Manifest(product="app", version="1", release_counter=1, payload=CONTENT, transports=(TRANSPORT,))
    data = encode(manifest)
    verified = open_manifest(data, sha256=hashlib.sha256(data).hexdigest(), where="test")
    return Release(manifest=verified, transport=TRANSPORT, torrent=TORRENT)


class CompleteTransfer:
    """A torrent that is complete from the start."""

    def progress(self) -> TransferProgress:
        return TransferProgress(
            piece_count=1,
            piece_bytes=1_000,
            total_bytes=1_000,
            have=PieceSet.first(1),
            peers_have=NO_PIECES,
            spread=NO_PIECES,
            on_disk=NO_PIECES,
            peers=(),
            bytes_lan=0,
            is_complete=True,
        )

    async def changed(self) -> None:
        await trio.sleep_forever()

    def neighbours(self) -> Sequence[Neighbour]:
        return ()

    async def neighbours_changed(self) -> None:
        await trio.sleep_forever()

    def corruptions(self) -> Mapping[bytes, int]:
        return {}

    def ignore(self, peers: Collection[bytes]) -> None:
        raise AssertionError(peers)

    def limit(self, *, upload: int | None, download: int | None) -> None:
        raise AssertionError((upload, download))

    def connect(self, endpoint: Endpoint) -> None:
        raise AssertionError(endpoint)

    async def add_piece(self, index: int, data: bytes) -> bool:
        raise AssertionError(index)


class SlowlyClosingSwarm:
    """Like libtorrent: takes a while to close a torrent, and refuses one that it still has."""

    port = 1

    def __init__(self) -> None:
        self.open: set[str] = set()
        self.begun = 0
        self.may_close = trio.Event()

    @asynccontextmanager
    async def transfer(self, spec: TorrentSpec) -> AsyncIterator[CompleteTransfer]:
        if spec.info_hash in self.open:
            raise RuntimeError("torrent already exists in session")
        self.open.add(spec.info_hash)
        self.begun += 1
        try:
            yield CompleteTransfer()
        finally:
            with trio.CancelScope(shield=True):
                await self.may_close.wait()
            self.open.discard(spec.info_hash)

    def use_certificate(self, certificate_pem: bytes, key_pem: bytes) -> None:
        raise AssertionError("nothing is renewed here")

    async def listen_on(self, hosts: Sequence[str]) -> None:
        raise AssertionError(hosts)

    def limit(self, *, upload: int | None, download: int | None) -> None:
        raise AssertionError((upload, download))


class RoomyStore:
    """Has room, until told otherwise."""

    def __init__(self) -> None:
        self.problem: Exception | None = None

    def directory(self, sha256: str) -> Path:
        return Path("/nonexistent") / sha256

    async def make_room(self, sha256: str, size: int) -> None:
        await trio.lowlevel.checkpoint()
        if self.problem is not None:
            raise self.problem

    async def read_ahead(self, sha256: str, name: str, until: int) -> None:
        raise AssertionError(until)


class TorrentsOnly:
    """A trust client that has the torrent."""

    async def torrent(self, manifest: VerifiedManifest, transport_sha256: str | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        return b"torrent"


@pytest.fixture
def swarm() -> SlowlyClosingSwarm:
    return SlowlyClosingSwarm()


@pytest.fixture
def store() -> RoomyStore:
    return RoomyStore()


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
def carriages(swarm: SlowlyClosingSwarm, store: RoomyStore, board: Board, monkeypatch: pytest.MonkeyPatch) -> Carriages:
    class Facts:
        info_hash, size, name = TORRENT.info_hash, CONTENT.size, "office"

    monkeypatch.setattr(carrying, "read_torrent", lambda data, *, where: Facts)
    return Carriages(
        swarm=swarm,
        origin=None,  # type: ignore[arg-type]  # a complete torrent never asks the origin
        store=store,  # type: ignore[arg-type]  # the two methods that carrying uses
        trust=TorrentsOnly(),  # type: ignore[arg-type]  # the one method that carrying uses
        board=board,
        identity=Identity(device="pc-1", segment="office", site="main"),
        metrics=AgentMetrics(CollectorRegistry()),
        timing=Timing(),
    )


async def test_what_is_dropped_and_wanted_again_waits_for_its_files(
    carriages: Carriages, swarm: SlowlyClosingSwarm
) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(carriages.run)
        first = carriages.carry(release())
        await first.finished.wait()
        carriages.drop(first.digest)
        again = carriages.carry(release())
        assert again is not first
        await wait_all_tasks_blocked()
        assert not again.finished.is_set()
        assert carriages.digests_in_use == {CONTENT.sha256}
        swarm.may_close.set()
        await again.finished.wait()
        assert again.refusal is None
        assert swarm.begun == 2
        nursery.cancel_scope.cancel()


async def test_files_that_are_being_closed_are_still_in_use(carriages: Carriages, swarm: SlowlyClosingSwarm) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(carriages.run)
        await carriages.carry(release()).finished.wait()
        carriages.drop(CONTENT.sha256)
        await wait_all_tasks_blocked()
        assert carriages.digests == frozenset()
        assert carriages.digests_in_use == {CONTENT.sha256}
        swarm.may_close.set()
        await wait_all_tasks_blocked()
        assert carriages.digests_in_use == frozenset()
        nursery.cancel_scope.cancel()


async def test_carrying_what_is_carried_changes_nothing(carriages: Carriages, swarm: SlowlyClosingSwarm) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(carriages.run)
        first = carriages.carry(release())
        await first.finished.wait()
        assert carriages.carry(release()) is first
        assert swarm.begun == 1
        swarm.may_close.set()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        (PayloadStoreFull("no room"), Reason.DISK_FULL),
        (StorageFailed(OSError(5, "Input/output error")), Reason.STORAGE_FAILED),
        (StorageFailed(OSError(28, "No space left on device")), Reason.DISK_FULL),
    ],
)
async def test_trouble_with_the_disk_is_a_reason_and_another_try_is_a_new_beginning(
    carriages: Carriages,
    swarm: SlowlyClosingSwarm,
    store: RoomyStore,
    board: Board,
    problem: Exception,
    reason: Reason,
) -> None:
    store.problem = problem
    swarm.may_close.set()
    async with trio.open_nursery() as nursery:
        await nursery.start(carriages.run)
        failed = carriages.carry(release())
        await failed.ended.wait()
        assert failed.refusal is not None
        assert failed.refusal.reason is reason
        store.problem = None
        again = carriages.carry(release())
        await again.finished.wait()
        assert again.refusal is None
        assert board.carried.value == {TORRENT.info_hash}
        nursery.cancel_scope.cancel()
