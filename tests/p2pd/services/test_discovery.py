# SPDX-License-Identifier: Apache-2.0
"""Who is recognised on the LAN, and how this endpoint shows itself, on a clock that stands still."""

import hashlib
import secrets
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from unittest.mock import AsyncMock

import pytest
import trio
from prometheus_client import CollectorRegistry
from trio.testing import MockClock, wait_all_tasks_blocked

from p2pd.decisions.discovery_tags import EPOCH_SECONDS, aside_tag, epoch_of, presence_tag, tags_to_announce
from p2pd.decisions.network_gates import Passage
from p2pd.host.supervise import ServiceFailure
from p2pd.host.wall_clock import WallClock
from p2pd.ports import MAX_TAGS, Announcement, Departure, Endpoint, Sighting
from p2pd.ports_network import Whereabouts
from p2pd.services.discovery import Discovery
from p2pd.services.metrics import AgentMetrics
from p2pd.services.neighbourhood import MAX_PER_DEVICE, MAX_STRANGERS, MAX_UNREAD, Neighbourhood
from p2pd.services.site import Board, Peer
from signing.budgets import GateAction
from signing.reasons import Reason
from tests.fakes.fake_lan import FakeLan, FakeLanNetwork, open_fake_network
from tests.p2pd.services.views import NOW, SELF, make_trusted, make_verified

TRUSTED = make_trusted(version=7)
SEGMENT = hashlib.sha256(TRUSTED.segment_ca_pem).digest()
INFO_HASH = "ab" * 32
PORT = 7681


@dataclass
class Scene:
    """This endpoint, and the wire on which others are put."""

    board: Board
    network: FakeLanNetwork
    own: FakeLan
    clock: MockClock

    @property
    def devices(self) -> dict[str, str]:
        """Where each recognised device is dialled."""
        return {device: peer.endpoint.host for device, peer in self.board.peers.value.items()}

    def places(self, device: str) -> list[str]:
        """Where it can be dialled, in the order in which to try."""
        return [endpoint.host for endpoint in self.peer(device).endpoints]

    def peer(self, device: str) -> Peer:
        return self.board.peers.value[device]

    async def pass_time(self, seconds: float) -> None:
        await wait_all_tasks_blocked()
        self.clock.jump(seconds)
        await wait_all_tasks_blocked()


@asynccontextmanager
async def discovering(clock: MockClock, wall_clock: WallClock) -> AsyncIterator[Scene]:
    board = Board()
    board.here.set(Whereabouts(hosts=("10.0.0.1",)))
    async with open_fake_network() as network, network.open_lan("10.0.0.1") as own, trio.open_nursery() as nursery:
        discovery = Discovery(
            own, board, SELF, wall_clock, AgentMetrics(CollectorRegistry()), torrent_port=PORT, mirror_port=7682
        )
        await nursery.start(discovery.run)
        yield Scene(board, network, own, clock)
        nursery.cancel_scope.cancel()


def tags_of(device: str, *, version: int = 7, carries: Iterable[str] = (), now: int = NOW) -> frozenset[bytes]:
    return tags_to_announce(SEGMENT, device, epoch_of(now), timestamp_version=version, info_hashes=tuple(carries))


def says(device: str, *, version: int = 7, carries: Iterable[str] = (), now: int = NOW) -> Announcement:
    tags = tags_of(device, version=version, carries=carries, now=now)
    return Announcement(torrent_port=PORT, mirror_port=7682, tags=tags)


def stranger() -> Sighting:
    return Sighting(
        instance=secrets.token_hex(8),
        endpoint=Endpoint(host="10.6.6.6", port=1),
        mirror_port=0,
        tags=frozenset(secrets.token_bytes(8) for _ in range(MAX_TAGS)),
    )


async def test_a_member_is_recognised_whoever_came_first(frozen_clock: MockClock, wall_clock: WallClock) -> None:
    async with discovering(frozen_clock, wall_clock) as scene, scene.network.open_lan("10.0.0.2") as two:
        await two.announce(says("desk-2"))
        await wait_all_tasks_blocked()
        assert scene.devices == {}  # nothing verified says who that might be
        scene.board.trusted.set(TRUSTED)
        await wait_all_tasks_blocked()
        assert scene.devices == {"desk-2": "10.0.0.2"}
        async with scene.network.open_lan("10.0.0.3") as three:
            await three.announce(says("desk-3"))
            await wait_all_tasks_blocked()
            assert scene.devices == {"desk-2": "10.0.0.2", "desk-3": "10.0.0.3"}
        await wait_all_tasks_blocked()
        assert scene.devices == {"desk-2": "10.0.0.2"}


async def test_what_a_member_says_is_kept_up_to_date(frozen_clock: MockClock, wall_clock: WallClock) -> None:
    async with discovering(frozen_clock, wall_clock) as scene, scene.network.open_lan("10.0.0.2") as two:
        scene.board.trusted.set(make_trusted(version=7, manifests=[make_verified(INFO_HASH)]))
        await two.announce(says("desk-2", version=6))
        await wait_all_tasks_blocked()
        assert scene.peer("desk-2").has_other_state
        assert scene.peer("desk-2").info_hashes == frozenset()
        await scene.pass_time(10)
        await two.announce(says("desk-2", carries=[INFO_HASH]))
        await wait_all_tasks_blocked()
        assert not scene.peer("desk-2").has_other_state
        assert scene.peer("desk-2").info_hashes == {INFO_HASH}
        assert scene.peer("desk-2").seen_at == trio.current_time()
        assert scene.peer("desk-2").mirror == Endpoint(host="10.0.0.2", port=7682)


async def test_a_killed_member_departs(frozen_clock: MockClock, wall_clock: WallClock) -> None:
    async with discovering(frozen_clock, wall_clock) as scene, scene.network.open_lan("10.0.0.2") as two:
        scene.board.trusted.set(TRUSTED)
        await two.announce(says("desk-2"))
        await wait_all_tasks_blocked()
        scene.network.kill(two)
        await scene.pass_time(59)
        assert scene.devices == {"desk-2": "10.0.0.2"}
        await scene.pass_time(2)
        assert scene.devices == {}


async def test_a_killed_member_that_is_doubted_departs_within_seconds(
    frozen_clock: MockClock, wall_clock: WallClock
) -> None:
    async with (
        discovering(frozen_clock, wall_clock) as scene,
        scene.network.open_lan("10.0.0.2") as two,
        scene.network.open_lan("10.0.0.3") as three,
    ):
        scene.board.trusted.set(TRUSTED)
        await two.announce(says("desk-2"))
        await three.announce(says("desk-3"))
        await wait_all_tasks_blocked()
        scene.network.kill(two)
        for device in ("desk-2", "desk-3", "nobody"):
            scene.board.doubt(device)
        await scene.pass_time(4)
        assert scene.devices == {"desk-3": "10.0.0.3"}


async def test_who_may_not_use_the_wan_says_so_at_once_and_takes_it_back(
    frozen_clock: MockClock, wall_clock: WallClock
) -> None:
    async with discovering(frozen_clock, wall_clock) as scene:
        scene.board.trusted.set(TRUSTED)
        await wait_all_tasks_blocked()
        aside = aside_tag(SEGMENT, SELF.device, epoch_of(NOW))
        said = []
        for passage in (
            Passage(),
            Passage(action=GateAction.LAN_ONLY, reason=Reason.LINK_METERED),
            Passage(upload_reason=Reason.BATTERY_LOW),
            Passage(),
        ):
            scene.board.passage.set(passage)
            await wait_all_tasks_blocked()
            assert scene.own.announced is not None
            said.append(aside in scene.own.announced.tags)
        assert said == [False, True, True, False]


async def test_what_a_peer_says_of_the_wan_is_known_here(frozen_clock: MockClock, wall_clock: WallClock) -> None:
    async with discovering(frozen_clock, wall_clock) as scene, scene.network.open_lan("10.0.0.2") as two:
        scene.board.trusted.set(TRUSTED)
        said = says("desk-2")
        await two.announce(replace(said, tags=said.tags | {aside_tag(SEGMENT, "desk-2", epoch_of(NOW))}))
        await wait_all_tasks_blocked()
        assert scene.peer("desk-2").is_aside
        await two.announce(said)
        await wait_all_tasks_blocked()
        assert not scene.peer("desk-2").is_aside


async def test_a_peer_on_two_links_is_one_peer_and_either_link_may_go(
    frozen_clock: MockClock, wall_clock: WallClock
) -> None:
    async with discovering(frozen_clock, wall_clock) as scene:
        scene.board.trusted.set(TRUSTED)
        async with scene.network.open_lan("10.0.0.2") as wire:
            await wire.announce(says("desk-2"))
            await scene.pass_time(60)
            async with scene.network.open_lan("10.1.0.22") as air:
                await air.announce(says("desk-2", version=6))
                await wait_all_tasks_blocked()
                assert scene.places("desk-2") == ["10.1.0.22", "10.0.0.2"]  # it may have left the wire
                assert scene.peer("desk-2").mirror == Endpoint(host="10.1.0.22", port=7682)
                await wire.announce(says("desk-2", version=8), renew=True)
                await wait_all_tasks_blocked()
                assert scene.places("desk-2") == ["10.1.0.22", "10.0.0.2"]  # that it says something is no new place
                assert scene.peer("desk-2").has_other_state  # and what it says counts
                await scene.pass_time(EPOCH_SECONDS + 1)
                scene.board.trusted.set(make_trusted(version=8))  # all are looked at again
                await wait_all_tasks_blocked()
                assert scene.places("desk-2") == ["10.1.0.22", "10.0.0.2"]
            await wait_all_tasks_blocked()
            assert scene.places("desk-2") == ["10.0.0.2"]
        await wait_all_tasks_blocked()
        assert scene.devices == {}


async def test_both_versions_of_ip_at_once_are_tried_in_the_same_order_by_all(
    frozen_clock: MockClock, wall_clock: WallClock
) -> None:
    async with discovering(frozen_clock, wall_clock) as scene:
        scene.board.trusted.set(TRUSTED)
        await wait_all_tasks_blocked()
        async with scene.network.open_lan("fd00::2") as six, scene.network.open_lan("10.0.0.2") as four:
            await six.announce(says("desk-2"))
            await scene.pass_time(1)
            await four.announce(says("desk-2"))
            await wait_all_tasks_blocked()
            assert scene.places("desk-2") == ["10.0.0.2", "fd00::2"]


async def test_discovery_goes_where_the_endpoint_goes(frozen_clock: MockClock, wall_clock: WallClock) -> None:
    async with discovering(frozen_clock, wall_clock) as scene, scene.network.open_lan("10.0.0.2") as two:
        scene.board.trusted.set(TRUSTED)
        await two.announce(says("desk-2"))
        await wait_all_tasks_blocked()
        scene.board.here.set(Whereabouts())
        await wait_all_tasks_blocked()
        assert (scene.devices, two.seen) == ({}, {})
        scene.board.here.set(Whereabouts(hosts=("10.0.0.7",)))
        await wait_all_tasks_blocked()
        assert scene.devices == {"desk-2": "10.0.0.2"}
        assert [sighting.endpoint.host for sighting in two.seen.values()] == ["10.0.0.7"]


async def test_an_address_that_has_no_multicast_yet_is_tried_again(
    frozen_clock: MockClock, wall_clock: WallClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with discovering(frozen_clock, wall_clock) as scene, scene.network.open_lan("10.0.0.2") as two:
        scene.board.trusted.set(TRUSTED)
        await two.announce(says("desk-2"))
        monkeypatch.setattr(scene.own, "listen_on", AsyncMock(side_effect=ServiceFailure("no multicast")))
        scene.board.here.set(Whereabouts(hosts=("10.0.0.7",)))
        await scene.pass_time(1)
        assert [sighting.endpoint.host for sighting in two.seen.values()] == ["10.0.0.1"]
        monkeypatch.undo()
        await scene.pass_time(60)
        assert [sighting.endpoint.host for sighting in two.seen.values()] == ["10.0.0.7"]


async def test_strangers_ourselves_and_double_dealers_are_nobody(
    frozen_clock: MockClock, wall_clock: WallClock
) -> None:
    async with discovering(frozen_clock, wall_clock) as scene:
        scene.board.trusted.set(TRUSTED)
        async with scene.network.open_lan("10.0.0.9") as other:
            both = tags_of("desk-2") | tags_of("desk-3")
            for tags in (tags_of("desk-4"), tags_of(SELF.device), both, frozenset({b"12345678"}), frozenset[bytes]()):
                await other.announce(Announcement(torrent_port=PORT, mirror_port=0, tags=tags), renew=True)
                await wait_all_tasks_blocked()
                assert scene.devices == {}


async def test_a_stranger_becomes_a_peer_once_the_schedule_names_it(
    frozen_clock: MockClock, wall_clock: WallClock
) -> None:
    async with discovering(frozen_clock, wall_clock) as scene, scene.network.open_lan("10.0.0.4") as four:
        scene.board.trusted.set(TRUSTED)
        await four.announce(says("desk-4"))
        await wait_all_tasks_blocked()
        assert scene.devices == {}
        scene.board.trusted.set(make_trusted(version=8, members=("desk-1", "desk-4")))
        await wait_all_tasks_blocked()
        assert scene.devices == {"desk-4": "10.0.0.4"}
        scene.board.trusted.set(make_trusted(version=9, members=("desk-1",)))
        await wait_all_tasks_blocked()
        assert scene.devices == {}


async def test_a_new_epoch_brings_a_new_name_and_new_tags(frozen_clock: MockClock, wall_clock: WallClock) -> None:
    async with discovering(frozen_clock, wall_clock) as scene, scene.network.open_lan("10.0.0.2") as two:
        scene.board.trusted.set(TRUSTED)
        await wait_all_tasks_blocked()
        first = scene.own.announced
        assert first is not None
        assert presence_tag(SEGMENT, SELF.device, epoch_of(NOW)) in first.tags
        scene.board.carried.set(frozenset({INFO_HASH}))
        await wait_all_tasks_blocked()
        second = scene.own.announced
        assert second is not None
        assert second.instance == first.instance
        assert second.tags > first.tags
        await scene.pass_time(EPOCH_SECONDS + 1)
        third = scene.own.announced
        assert third is not None
        assert third.instance != first.instance
        assert not third.tags & second.tags
        assert two.seen == {third.instance: third}


async def test_members_are_recognised_in_every_epoch(frozen_clock: MockClock, wall_clock: WallClock) -> None:
    async with discovering(frozen_clock, wall_clock) as scene, scene.network.open_lan("10.0.0.2") as two:
        scene.board.trusted.set(TRUSTED)
        for _ in range(4):
            await two.announce(says("desk-2", now=wall_clock.unix()), renew=True)
            await wait_all_tasks_blocked()
            assert scene.devices == {"desk-2": "10.0.0.2"}
            await scene.pass_time(EPOCH_SECONDS + 1)
        assert scene.devices == {"desk-2": "10.0.0.2"}  # its clock is behind, by one epoch at most
        await scene.pass_time(EPOCH_SECONDS + 1)
        assert scene.devices == {}


async def test_nothing_is_announced_before_anything_is_trusted(frozen_clock: MockClock, wall_clock: WallClock) -> None:
    async with discovering(frozen_clock, wall_clock) as scene:
        await scene.pass_time(EPOCH_SECONDS)
        assert scene.own.announced is None


async def test_a_flood_of_strangers_pushes_no_member_out(frozen_clock: MockClock, wall_clock: WallClock) -> None:
    async with discovering(frozen_clock, wall_clock) as scene, scene.network.open_lan("10.0.0.2") as two:
        scene.board.trusted.set(TRUSTED)
        await two.announce(says("desk-2"))
        await wait_all_tasks_blocked()
        woken = scene.board.peers.version
        for _ in range(2 * MAX_STRANGERS):
            scene.own.hear(stranger())
        await wait_all_tasks_blocked()
        assert scene.devices == {"desk-2": "10.0.0.2"}
        assert scene.board.peers.version == woken
        scene.board.trusted.set(make_trusted(version=8))
        await wait_all_tasks_blocked()
        assert scene.devices == {"desk-2": "10.0.0.2"}


def test_a_stranger_costs_one_look_and_no_more_than_so_many_are_looked_at_again(
    frozen_clock: MockClock,
) -> None:
    looks: list[str] = []

    class CountingBook:
        def recognise(self, sighting: Sighting) -> None:
            looks.append(sighting.instance)

    neighbourhood, somebody = Neighbourhood(), stranger()
    for number in range(2 * MAX_UNREAD):
        assert not neighbourhood.see(replace(somebody, instance=str(number)), 0)
    assert looks == []
    neighbourhood.read_with(CountingBook())  # type: ignore[arg-type]  # all that it asks of a TagBook
    assert looks == [str(number) for number in range(MAX_UNREAD, 2 * MAX_UNREAD)]
    looks.clear()
    neighbourhood.see(replace(somebody, instance="new"), 1)
    assert looks == ["new"]
    looks.clear()
    neighbourhood.read_with(CountingBook())  # type: ignore[arg-type]  # as above
    assert len(looks) == MAX_STRANGERS
    assert looks[-1] == "new"


async def test_repeated_tags_make_no_more_than_a_few_instances_of_a_device(
    frozen_clock: MockClock, wall_clock: WallClock
) -> None:
    async with discovering(frozen_clock, wall_clock) as scene:
        scene.board.trusted.set(TRUSTED)
        await wait_all_tasks_blocked()
        echo = replace(stranger(), tags=tags_of("desk-2"))
        for number in range(100):
            host = Endpoint(host=f"10.0.9.{number}", port=PORT)
            scene.own.hear(replace(echo, instance=f"{number:016x}", endpoint=host))
        await wait_all_tasks_blocked()
        assert scene.places("desk-2") == [f"10.0.9.{number}" for number in range(100 - MAX_PER_DEVICE, 100)]
        for number in range(100 - MAX_PER_DEVICE, 100):
            assert scene.devices == {"desk-2": f"10.0.9.{number}"}
            scene.own.hear(Departure(instance=f"{number:016x}"))
            await wait_all_tasks_blocked()
        assert scene.devices == {}
