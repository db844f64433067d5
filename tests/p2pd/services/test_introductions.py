# SPDX-License-Identifier: Apache-2.0
"""Whom a torrent is introduced to, and who is left alone for a while, on a clock that never waits."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest
import trio
from prometheus_client import CollectorRegistry
from trio.testing import MockClock

from p2pd.decisions.neighbours import Bounds
from p2pd.decisions.silence import CHECK_SECONDS
from p2pd.piece_set import NO_PIECES, PieceSet
from p2pd.ports import Endpoint, Neighbour, TransferProgress, peer_id_of
from p2pd.ports_network import Whereabouts
from p2pd.services.introductions import WATCH_SECONDS, Introductions
from p2pd.services.metrics import AgentMetrics
from p2pd.services.site import Board, Link, Peer
from signing.reasons import Reason
from tests.p2pd.services.views import SELF, make_trusted

INFO_HASH = "b" * 64
PIECES, PIECE_BYTES = 8, 2**20
EVERYTHING = PieceSet.first(PIECES)
BOUNDS = Bounds()


@dataclass
class Scene:
    """A torrent whose peers the test moves, and the site around it. Implements `p2pd.ports.Transfer` as far as used."""

    board: Board = field(default_factory=Board)
    dialled: list[tuple[float, str]] = field(default_factory=list)
    have: PieceSet = NO_PIECES
    bytes_lan: int = 0
    there: dict[str, Neighbour] = field(default_factory=dict)
    wrong: dict[bytes, int] = field(default_factory=dict)
    ignored: list[list[bytes]] = field(default_factory=list)
    moved: trio.Event = field(default_factory=trio.Event)

    def progress(self) -> TransferProgress:
        return TransferProgress(
            piece_count=PIECES,
            piece_bytes=PIECE_BYTES,
            total_bytes=PIECES * PIECE_BYTES,
            have=self.have,
            peers_have=NO_PIECES,
            spread=NO_PIECES,
            on_disk=NO_PIECES,
            peers=tuple(peer.peer_id for peer in self.there.values()),
            bytes_lan=self.bytes_lan,
            is_complete=self.have == EVERYTHING,
        )

    def connect(self, endpoint: Endpoint) -> None:
        self.dialled.append((trio.current_time(), endpoint.host))

    def neighbours(self) -> Sequence[Neighbour]:
        return tuple(self.there.values())

    async def neighbours_changed(self) -> None:
        await self.moved.wait()
        self.moved = trio.Event()

    def corruptions(self) -> Mapping[bytes, int]:
        return self.wrong

    def ignore(self, peers: Collection[bytes]) -> None:
        self.ignored.append(sorted(peers))

    def limit(self, *, upload: int | None, download: int | None) -> None:
        raise AssertionError((upload, download))

    async def changed(self) -> None:
        raise AssertionError("that belongs to whoever fills the torrent")

    async def add_piece(self, index: int, data: bytes) -> bool:
        raise AssertionError((index, data))

    def announce(self, *devices: str, host: str = "10.0.0.") -> None:
        """These carry the torrent too; others do no more."""
        peers = {device: peer(device, host) for device in devices}
        self.board.peers.set(peers)

    def arrive(self, device: str, have: PieceSet = EVERYTHING, latency: float | None = 0.002) -> None:
        self.there[device] = Neighbour(
            peer_id=peer_id_of(device),
            have=have,
            is_complete=have == EVERYTHING,
            latency=latency,
            bytes_in=0,
            bytes_out=0,
        )
        self.moved.set()

    def leave(self, device: str) -> None:
        del self.there[device]
        self.moved.set()

    def give(self, device: str, count: int) -> None:
        self.there[device] = replace(self.there[device], bytes_in=self.there[device].bytes_in + count)
        self.bytes_lan += count

    def link(self, device: str) -> Link:
        return self.board.links.value[INFO_HASH][device]


def peer(device: str, host: str = "10.0.0.") -> Peer:
    return Peer(
        device=device,
        endpoint=Endpoint(host=host + device.removeprefix("desk-"), port=7_681),
        mirror=None,
        info_hashes=frozenset([INFO_HASH]),
        has_other_state=False,
        tags=frozenset(),
        seen_at=trio.current_time(),
    )


@asynccontextmanager
async def introduced(scene: Scene, members: Sequence[str] = ("desk-1", "desk-2", "desk-3")) -> AsyncIterator[None]:
    scene.board.trusted.set(make_trusted(members=members))
    introductions = Introductions(
        INFO_HASH, scene, board=scene.board, identity=SELF, metrics=AgentMetrics(CollectorRegistry())
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(introductions.run)
        yield
        nursery.cancel_scope.cancel()


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_whoever_announces_the_torrent_is_dialled_within_moments(scene: Scene, autojump_clock: MockClock) -> None:
    async with introduced(scene):
        scene.announce("desk-2", "desk-3", "stranger")
        await trio.sleep(BOUNDS.second_dial + 0.1)
        assert {host for _, host in scene.dialled} == {"10.0.0.2", "10.0.0.3"}
        assert scene.link("desk-2") == Link(is_connected=False)
        scene.arrive("desk-2")
        await trio.sleep(0.1)
        assert scene.link("desk-2") == Link(is_connected=True, latency=0.002)
    assert scene.board.links.value == {}, "nothing is told of a torrent that is not carried"


async def test_who_does_not_answer_is_dialled_ever_more_rarely(scene: Scene, autojump_clock: MockClock) -> None:
    async with introduced(scene):
        scene.announce("desk-2")
        await trio.sleep(BOUNDS.second_dial + BOUNDS.answer + 0.1)
        assert scene.link("desk-2").reason is Reason.PEER_UNREACHABLE
        await trio.sleep(3_600)
        pauses = [after - before for (before, _), (after, _) in zip(scene.dialled, scene.dialled[1:], strict=False)]
        assert pauses == sorted(pauses)
        assert 10 < pauses[0] < 20
        assert 600 <= pauses[-1] <= 620, "never more than ten minutes"


async def test_a_peer_that_moved_is_dialled_where_it_is_now(scene: Scene, autojump_clock: MockClock) -> None:
    async with introduced(scene):
        scene.announce("desk-2")
        await trio.sleep(BOUNDS.second_dial + 0.1)
        scene.announce("desk-2", host="10.9.9.")
        await trio.sleep(0.1)
        assert [host for _, host in scene.dialled] == ["10.0.0.2", "10.9.9.2"]


async def test_a_lost_peer_is_dialled_again_and_one_that_departed_is_not(
    scene: Scene, autojump_clock: MockClock
) -> None:
    async with introduced(scene):
        scene.announce("desk-2", "desk-3")
        scene.arrive("desk-2", have=NO_PIECES)
        scene.arrive("desk-3", have=NO_PIECES)
        await trio.sleep(60)
        scene.dialled.clear()
        scene.leave("desk-2")
        scene.leave("desk-3")
        scene.announce("desk-2")
        await trio.sleep(0.1)
        assert scene.link("desk-2").reason is Reason.PEER_LOST
        await trio.sleep(5)
        assert [host for _, host in scene.dialled] == ["10.0.0.2"]


async def test_of_a_large_site_only_some_are_dialled(scene: Scene, autojump_clock: MockClock) -> None:
    members = [f"desk-{number}" for number in range(1, 200)]
    async with introduced(scene, members):
        scene.announce(*members[1:])
        await trio.sleep(BOUNDS.second_dial + 0.1)
        assert 10 <= len(scene.dialled) <= BOUNDS.most
        reasons = [link.reason for link in scene.board.links.value[INFO_HASH].values()]
        assert reasons.count(Reason.PEER_NOT_NEEDED) == 198 - len(scene.dialled)


async def test_who_offers_and_does_not_send_is_ignored_for_a_while(scene: Scene, autojump_clock: MockClock) -> None:
    async with introduced(scene):
        scene.announce("desk-2", "desk-3")
        scene.arrive("desk-2")
        scene.arrive("desk-3", have=NO_PIECES)
        await trio.sleep(WATCH_SECONDS + 1)
        assert scene.link("desk-2").reason is Reason.PEER_SLOW
        assert scene.link("desk-2").is_connected
        assert scene.link("desk-3").reason is None, "it has nothing to give"
        assert scene.ignored == [[peer_id_of("desk-2")]]
        scene.have = EVERYTHING  # from elsewhere
        await trio.sleep(31)
        scene.moved.set()
        await trio.sleep(0.1)
        assert scene.ignored[-1] == []


async def test_nobody_is_called_slow_while_bytes_come_or_pieces_are_new(
    scene: Scene, autojump_clock: MockClock
) -> None:
    async with introduced(scene):
        scene.announce("desk-2", "desk-3")
        scene.arrive("desk-2")
        scene.arrive("desk-3")
        for _ in range(60):
            await trio.sleep(1)
            scene.give("desk-3", 100_000)
        assert scene.ignored == []
        for number in range(PIECES):  # what is slow is the origin: each piece is passed on as it comes
            scene.have = PieceSet.first(number)
            scene.arrive("desk-2", have=PieceSet.first(number + 1))
            scene.arrive("desk-3", have=PieceSet.first(number + 1))
            await trio.sleep(3)
            scene.have = PieceSet.first(number + 1)
            await trio.sleep(7)
        assert scene.ignored == []


async def test_who_hangs_is_not_believed_for_long_though_others_send(scene: Scene, autojump_clock: MockClock) -> None:
    """Its host keeps the connection. What it alone has comes from elsewhere within seconds; it is not banned."""
    async with introduced(scene):
        scene.announce("desk-2", "desk-3")
        scene.arrive("desk-2")
        scene.arrive("desk-3", have=PieceSet.first(4))
        for _ in range(8):
            scene.give("desk-3", 2**20)
            await trio.sleep(1)
        assert scene.ignored == [[peer_id_of("desk-2")]]
        assert scene.link("desk-2").reason is Reason.PEER_SLOW
        scene.give("desk-2", 2**14)
        await trio.sleep(CHECK_SECONDS)
        assert scene.ignored[-1] == []
        assert scene.link("desk-2").reason is None


async def test_wrong_data_costs_a_ban(scene: Scene, autojump_clock: MockClock) -> None:
    async with introduced(scene):
        scene.announce("desk-2")
        scene.arrive("desk-2")
        await trio.sleep(1)
        scene.wrong[peer_id_of("desk-2")] = 1
        scene.leave("desk-2")
        dialled = len(scene.dialled)
        await trio.sleep(50)
        assert scene.link("desk-2").reason is Reason.PEER_CORRUPT
        assert scene.ignored == [[peer_id_of("desk-2")]]
        assert len(scene.dialled) == dialled
        await trio.sleep(12)
        assert len(scene.dialled) == dialled + 1


async def test_latency_is_smoothed_and_outlives_the_torrent(scene: Scene, autojump_clock: MockClock) -> None:
    async with introduced(scene):
        scene.announce("desk-2")
        scene.arrive("desk-2", latency=0.008)
        await trio.sleep(1)
        scene.arrive("desk-2", latency=0.016)
        await trio.sleep(1)
    assert scene.board.latency == {"desk-2": pytest.approx(0.009)}


async def test_a_complete_torrent_with_its_peers_sleeps(scene: Scene, autojump_clock: MockClock) -> None:
    scene.have = EVERYTHING
    async with introduced(scene):
        scene.announce("desk-2")
        scene.arrive("desk-2")
        await trio.sleep(60)
        looks: list[int] = []
        scene.neighbours = lambda: looks.append(1) or ()  # type: ignore[method-assign,func-returns-value]  # counts
        await trio.sleep(3_600)
        assert looks == []


async def test_who_did_not_answer_from_another_network_is_not_to_blame(scene: Scene, autojump_clock: MockClock) -> None:
    async with introduced(scene):
        scene.announce("desk-2", "desk-3")
        await trio.sleep(BOUNDS.second_dial + BOUNDS.answer + 0.1)
        scene.wrong = {peer_id_of("desk-3"): 1}
        scene.moved.set()
        await trio.sleep(0.1)
        assert scene.link("desk-2").reason is Reason.PEER_UNREACHABLE
        scene.dialled.clear()
        scene.board.here.set(Whereabouts(hosts=("10.0.0.77",)))
        await trio.sleep(BOUNDS.second_dial + 0.1)
        assert [host for _, host in scene.dialled] == ["10.0.0.2"], "and not only when its ban is over"
        assert scene.link("desk-3").reason is Reason.PEER_CORRUPT, "that has nothing to do with the link"
