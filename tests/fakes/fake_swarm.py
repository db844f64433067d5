# SPDX-License-Identifier: Apache-2.0
"""A swarm in memory for scenarios on a virtual clock: real torrents and files, pieces that move at a given rate.

    async with open_fake_swarm_network(pieces_per_second=50) as network:
        swarm = network.join(Endpoint(host="10.0.0.1", port=7000), "pc-1")

Peers see each other, and each other's pieces, at once. Everything else passes the tests of `tests/contracts`.
"""

import hashlib
import os
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import reduce
from operator import itemgetter, or_

import trio

from p2pd.host.torrent_file import TorrentFacts, read_torrent
from p2pd.piece_set import NO_PIECES, PieceSet
from p2pd.ports import Endpoint, Neighbour, PayloadStoreFull, TorrentSpec, TransferFailed, TransferProgress, peer_id_of
from signing.devices import DeviceKey, read_device_certificate
from signing.errors import BadInput

FLUSH_SECONDS = 0.01  # between the last piece and a complete file
LATENCY_SECONDS = 0.001


class FakeSwarmNetwork:
    """All nodes that could reach each other. Made by `open_fake_swarm_network` only."""

    def __init__(self, tasks: trio.Nursery, pieces_per_second: float) -> None:
        self.tasks = tasks
        self.pieces_per_second = pieces_per_second  # of each transfer, from all its peers together
        self._nodes: dict[Endpoint, FakeSwarm] = {}
        self._cut_off: set[Endpoint] = set()

    def join(
        self,
        endpoint: Endpoint,
        device: str,
        *,
        segments: frozenset[str] | None = None,
        room_bytes: int | None = None,
    ) -> "FakeSwarm":
        """A new node; without `segments` it has the certificates of all. Its disk holds `room_bytes`, or anything."""
        if endpoint in self._nodes:
            raise TransferFailed(f"{endpoint} is taken; kill the node that has it first")
        node = self._nodes[endpoint] = FakeSwarm(self, endpoint, device, segments, room_bytes)
        return node

    def cut_off(self, endpoint: Endpoint) -> None:
        """Unplug a node: nothing comes in or goes out, and the node itself lives on."""
        self._cut_off.add(endpoint)
        self.stir()

    def restore(self, endpoint: Endpoint) -> None:
        """Plug it in again; peers that were dialled connect at once."""
        self._cut_off.discard(endpoint)
        self.stir()

    def kill(self, endpoint: Endpoint) -> None:
        """End a node as a power cut does: its transfers stand still, files stay; `join` may start it anew."""
        self._nodes.pop(endpoint).die()
        self.stir()

    def move(self, node: "FakeSwarm", endpoint: Endpoint) -> None:
        """Plug a node in elsewhere, or, without a host, nowhere; connections end."""
        if self._nodes.get(node.endpoint) is node:
            del self._nodes[node.endpoint]
        node.endpoint = endpoint
        if endpoint.host:
            self._nodes[endpoint] = node
        self.stir()

    def stir(self) -> None:
        """Something moved: every transfer looks again."""
        for node in self._nodes.values():
            for transfer in node.transfers.values():
                transfer.stir()

    def neighbours(self, transfer: "FakeTransfer") -> list["FakeTransfer"]:
        """The transfers of the same torrent that `transfer` is connected to, in a stable order."""
        here = transfer.swarm.endpoint
        if not self._is_reachable(transfer.swarm) or transfer.swarm.download == 0:
            return []
        found = []
        for there, node in self._nodes.items():
            other = node.transfers.get(transfer.facts.info_hash)
            if other is None or other is transfer or not self._is_reachable(node) or node.download == 0:
                continue
            if (
                (there in transfer.dialled or here in other.dialled)
                and transfer.trusts(other)
                and other.trusts(transfer)
            ):
                found.append(other)
        return found

    def _is_reachable(self, node: "FakeSwarm") -> bool:
        return self._nodes.get(node.endpoint) is node and node.endpoint not in self._cut_off


@asynccontextmanager
async def open_fake_swarm_network(*, pieces_per_second: float = 100.0) -> AsyncIterator[FakeSwarmNetwork]:
    """A network for as long as the block lasts."""
    failure: Exception | None = None
    async with trio.open_nursery() as tasks:
        try:
            yield FakeSwarmNetwork(tasks, pieces_per_second)
        except Exception as problem:
            failure = problem  # raised below: here the nursery would wrap it in a group
        finally:
            tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure


class FakeSwarm:
    """One node; implements `p2pd.ports.Swarm`."""

    def __init__(
        self,
        network: FakeSwarmNetwork,
        endpoint: Endpoint,
        device: str,
        segments: frozenset[str] | None,
        room_bytes: int | None,
    ) -> None:
        self.network = network
        self.endpoint = endpoint
        self.device = device
        self.segments = segments
        self.room_bytes = room_bytes
        self.is_mute = False  # connects and shows what it has, and sends nothing (slow retrieval)
        self.upload: int | None = None
        self.download: int | None = None
        self.transfers: dict[str, FakeTransfer] = {}

    @property
    def port(self) -> int:
        """The port of its endpoint."""
        return self.endpoint.port

    async def listen_on(self, hosts: Sequence[str]) -> None:
        """At the first of them: it has one plug."""
        await trio.lowlevel.checkpoint()
        host = next(iter(hosts), "")
        if host != self.endpoint.host:
            for transfer in self.transfers.values():
                transfer.dialled.clear()
            self.network.move(self, Endpoint(host=host, port=self.endpoint.port))

    def use_certificate(self, certificate_pem: bytes, key_pem: bytes) -> None:
        """From now on the node is trusted in the segments that the certificate names."""
        certificate = read_device_certificate(certificate_pem, where="device certificate")
        if certificate.public_pem != DeviceKey.from_pem(key_pem).public_pem:
            raise BadInput("device certificate", "does not belong to the device key", "enrol the device again")
        self.segments = frozenset(certificate.segments)
        self.network.stir()

    @asynccontextmanager
    async def transfer(self, spec: TorrentSpec) -> AsyncIterator["FakeTransfer"]:
        """As `p2pd.ports.Swarm.transfer`."""
        facts = read_torrent(spec.torrent, where=f"torrent {spec.info_hash}", name=spec.name, info_hash=spec.info_hash)
        if facts.info_hash in self.transfers:
            raise RuntimeError(f"torrent {spec.info_hash} is carried already")
        if self.room_bytes is not None and facts.size > self.room_bytes:
            raise PayloadStoreFull(f"{spec.directory}: less than {facts.size} bytes are free")
        await trio.lowlevel.checkpoint()
        transfer = self.transfers[facts.info_hash] = FakeTransfer(self, facts, spec)
        self.network.tasks.start_soon(transfer.run)
        self.network.stir()
        try:
            yield transfer
        finally:
            transfer.stop()
            del self.transfers[facts.info_hash]
            self.network.stir()

    @property
    def gives(self) -> bool:
        """Whether it sends anything."""
        return not self.is_mute and self.upload != 0

    def hang(self) -> None:
        """Its process stands still, and its host does not: connections stay, nothing moves over them any more."""
        self.is_mute = True
        self.die()

    def limit(self, *, upload: int | None, download: int | None) -> None:
        """Rates are only noted in `upload` and `download`; 0 is obeyed."""
        self.upload, self.download = upload, download
        self.network.stir()

    def break_transfers(self) -> None:
        """Its disk fails for a moment: the transfers of now cannot go on, new ones can."""
        for transfer in self.transfers.values():
            transfer.fail(TransferFailed(f"{self.device}: Input/output error"))

    def die(self) -> None:
        """Stop moving, for good."""
        for transfer in self.transfers.values():
            transfer.stop()


class FakeTransfer:
    """One torrent of one node; implements `p2pd.ports.Transfer`. Pieces go to disk as they come."""

    def __init__(self, swarm: FakeSwarm, facts: TorrentFacts, spec: TorrentSpec) -> None:
        self.swarm = swarm
        self.facts = facts
        self.dialled: set[Endpoint] = set()
        self.upload: int | None = None
        self.download: int | None = None
        self._path = spec.directory / spec.name
        self._have = list(self._check_file())
        self._bytes_lan = 0
        self._is_complete = False
        self._liars: set[FakeTransfer] = set()  # those who sent a wrong piece
        self._corruptions: Counter[bytes] = Counter()
        self.bytes_from: Counter[bytes] = Counter()  # by peer id
        self._ignored: frozenset[bytes] = frozenset()
        self._neighbours_moved = trio.Event()
        self._connected: frozenset[FakeTransfer] = frozenset()
        self._failure: TransferFailed | None = None
        self._running = trio.CancelScope()
        self._stirred = trio.Event()
        self._news = trio.Event()
        # Every node takes pieces in an order of its own, or all would fetch the same ones.
        self._taste = [
            hashlib.sha256(f"{swarm.device} {index}".encode()).digest() for index in range(facts.piece_count)
        ]

    def progress(self) -> TransferProgress:
        """What is there now."""
        peers = self.swarm.network.neighbours(self)
        return TransferProgress(
            piece_count=self.facts.piece_count,
            piece_bytes=self.facts.piece_bytes,
            total_bytes=self.facts.size,
            have=self.pieces(),
            peers_have=reduce(or_, (peer.pieces() for peer in peers if peer.peer_id not in self._ignored), NO_PIECES),
            spread=PieceSet.held_by(max(1, (len(peers) + 1) // 2), (peer.pieces() for peer in peers)),
            peers=tuple(sorted({peer.peer_id for peer in peers})),
            on_disk=self.pieces(),
            bytes_lan=self._bytes_lan,
            is_complete=self._is_complete,
        )

    async def changed(self) -> None:
        """Return when there is progress since the last return."""
        await self._news.wait()
        if self._failure is not None:
            raise self._failure
        self._news = trio.Event()

    def neighbours(self) -> Sequence[Neighbour]:
        """The connected peers, as they are now; all are equally far."""
        by_peer_id = {peer.peer_id: peer for peer in self.swarm.network.neighbours(self)}
        return [
            Neighbour(
                peer_id=peer_id,
                have=peer.pieces(),
                is_complete=len(peer.pieces()) == self.facts.piece_count,
                latency=LATENCY_SECONDS,
                bytes_in=self.bytes_from[peer_id],
                bytes_out=peer.bytes_from[self.peer_id],
            )
            for peer_id, peer in sorted(by_peer_id.items(), key=itemgetter(0))
        ]

    async def neighbours_changed(self) -> None:
        """Return when a peer came or went since the last return."""
        await self._neighbours_moved.wait()
        self._neighbours_moved = trio.Event()

    def corruptions(self) -> Mapping[bytes, int]:
        """How often each peer was caught sending a wrong piece."""
        return self._corruptions

    def ignore(self, peers: Collection[bytes]) -> None:
        """What these peers have does not count in `peers_have` from now on."""
        self._ignored = frozenset(peers)
        self._news.set()

    def limit(self, *, upload: int | None, download: int | None) -> None:
        """Bytes per second to and from peers."""
        self.upload, self.download = upload, download

    def connect(self, endpoint: Endpoint) -> None:
        """Be connected to `endpoint` whenever it is there."""
        if endpoint not in self.dialled:
            self.dialled.add(endpoint)
            self.swarm.network.stir()

    async def add_piece(self, index: int, data: bytes) -> bool:
        """Hand over a whole piece from elsewhere; False if its hash is wrong."""
        await trio.lowlevel.checkpoint()
        if not self.facts.piece_matches(index, data):
            return False
        self._store(index, data)
        return True

    @property
    def peer_id(self) -> bytes:
        """How others know it."""
        return peer_id_of(self.swarm.device)

    def pieces(self) -> PieceSet:
        """What it has now."""
        return PieceSet.where(self._have)

    def has(self, index: int) -> bool:
        """Whether a peer may ask for this piece."""
        return self._have[index]

    def trusts(self, other: "FakeTransfer") -> bool:
        """Whether the other's certificate names this torrent's segment, and it has not lied."""
        segments = other.swarm.segments
        return other not in self._liars and (segments is None or self.facts.name in segments)

    def stir(self) -> None:
        """Something moved in the network."""
        before, self._connected = self._connected, frozenset(self.swarm.network.neighbours(self))
        if self._connected != before:
            self._neighbours_moved.set()
        self._stirred.set()
        self._news.set()

    def fail(self, failure: TransferFailed) -> None:
        """Raise `failure` for whoever waits for progress."""
        self._failure = failure
        self._news.set()

    def stop(self) -> None:
        """Move nothing any more."""
        self._running.cancel()

    async def run(self) -> None:
        """Take pieces from peers, one after the other, until all are there."""
        with self._running:
            while not all(self._have):
                choice = self._rarest()
                if choice is None:
                    await self._stirred.wait()
                    self._stirred = trio.Event()
                else:
                    await trio.sleep(self._seconds_from(choice[1]))
                    self._take(*choice)
            await trio.sleep(FLUSH_SECONDS)
            self._is_complete = True
            self._news.set()

    def _seconds_from(self, peer: "FakeTransfer") -> float:
        limits = [limit for limit in (self.download, peer.upload) if limit]
        return max(1 / self.swarm.network.pieces_per_second, *(self.facts.piece_bytes / limit for limit in limits), 0)

    def _offered(self, peers: "list[FakeTransfer]") -> PieceSet:
        return PieceSet.of(i for i in range(self.facts.piece_count) if any(peer.has(i) for peer in peers))

    def _rarest(self) -> tuple[int, "FakeTransfer"] | None:
        peers = self.swarm.network.neighbours(self)
        best: tuple[int, bytes, int, FakeTransfer] | None = None
        for index, has_piece in enumerate(self._have):
            holders = [] if has_piece else [peer for peer in peers if peer.has(index) and peer.swarm.gives]
            if holders and (best is None or (len(holders), self._taste[index]) < best[:2]):
                best = (len(holders), self._taste[index], index, holders[index % len(holders)])
        return None if best is None else best[2:]

    def _take(self, index: int, peer: "FakeTransfer") -> None:
        """The piece has arrived, unless the link broke, or it came from elsewhere meanwhile."""
        if self._have[index] or peer not in self.swarm.network.neighbours(self):
            return
        data = peer.read(index)
        self._bytes_lan += len(data)
        self.bytes_from[peer.peer_id] += len(data)
        if self.facts.piece_matches(index, data):
            self._store(index, data)
        else:
            self._liars.add(peer)
            self._corruptions[peer.peer_id] += 1
            self.swarm.network.stir()

    def _store(self, index: int, data: bytes) -> None:
        if self._have[index]:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("r+b" if self._path.exists() else "w+b") as file:
            file.truncate(self.facts.size)
            file.seek(index * self.facts.piece_bytes)
            file.write(data)
        self._have[index] = True
        self.swarm.network.stir()

    def read(self, index: int) -> bytes:
        """A piece as it lies on disk now."""
        with self._path.open("rb") as file:
            file.seek(index * self.facts.piece_bytes)
            return file.read(self.facts.piece_size(index))

    def _check_file(self) -> Iterator[bool]:
        if not self._path.exists():
            yield from [False] * self.facts.piece_count
            return
        if self._path.stat().st_size > self.facts.size:
            os.truncate(self._path, self.facts.size)
        for index in range(self.facts.piece_count):
            yield self.facts.piece_matches(index, self.read(index))
