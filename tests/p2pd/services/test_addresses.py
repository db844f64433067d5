# SPDX-License-Identifier: Apache-2.0
"""Everything that listens or dials moves with the host's addresses, and says so when there is none."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio
from prometheus_client import CollectorRegistry
from trio.testing import MockClock, wait_all_tasks_blocked

from p2pd.host.supervise import ServiceFailure
from p2pd.ports import Endpoint
from p2pd.ports_network import Whereabouts
from p2pd.services.addresses import AddressKeeper
from p2pd.services.listeners import Listeners
from p2pd.services.metrics import AgentMetrics
from p2pd.services.site import Board
from signing.errors import BadInput
from signing.reasons import Reason
from tests.fakes.fake_network import FakeNetwork
from tests.fakes.fake_swarm import FakeSwarm, open_fake_swarm_network


@dataclass
class Follower:
    """Notes where it was told to be; fails when it is told to."""

    board: Board
    been: list[tuple[str, ...]] = field(default_factory=list)
    failure: Exception | None = None

    async def follow(self, here: Whereabouts) -> None:
        await trio.lowlevel.checkpoint()
        if here.hosts and here.hosts not in self.been:
            assert self.board.here.value.hosts != here.hosts, "nobody hears of a place before everything is there"
        self.been.append(here.hosts)
        if self.failure is not None:
            raise self.failure


@dataclass
class Scene:
    network: FakeNetwork
    swarm: FakeSwarm
    follower: Follower
    board: Board
    registry: CollectorRegistry

    @property
    def problem(self) -> Reason | None:
        problem = self.board.network_problem.value
        return None if problem is None else problem.reason


@asynccontextmanager
async def keeping(network: FakeNetwork, *configured: str, failure: Exception | None = None) -> AsyncIterator[Scene]:
    board, registry = Board(), CollectorRegistry()
    follower = Follower(board, failure=failure)
    async with open_fake_swarm_network() as swarms, trio.open_nursery() as nursery:
        swarm = swarms.join(Endpoint(host="", port=7681), "desk-1")
        keeper = AddressKeeper(
            network, configured, swarm=swarm, followers=[follower], board=board, metrics=AgentMetrics(registry)
        )
        await nursery.start(keeper.run)
        yield Scene(network, swarm, follower, board, registry)
        nursery.cancel_scope.cancel()


async def test_everything_is_in_its_place_before_anybody_is_told() -> None:
    async with keeping(FakeNetwork({"eth0": ["10.0.0.5", "fd00::5"], "wlan0": ["10.1.0.5"]}), "eth0") as scene:
        assert scene.board.here.value.hosts == ("10.0.0.5", "fd00::5")
        assert scene.follower.been == [("10.0.0.5", "fd00::5")]
        assert scene.swarm.endpoint.host == "10.0.0.5"
        assert scene.problem is None
        assert scene.registry.get_sample_value("p2pd_addresses") == 2


async def test_what_is_none_of_ours_moves_nothing_but_those_who_dial_out() -> None:
    network = FakeNetwork({"eth0": ["10.0.0.5"]})
    async with keeping(network, "eth0") as scene:
        network.become({"eth0": ["10.0.0.5"], "vpn": ["10.8.0.2"]})
        await wait_all_tasks_blocked()
        assert scene.follower.been == [("10.0.0.5",)] * 2
        assert scene.board.here.value.present == {"10.0.0.5", "10.8.0.2"}


async def test_an_endpoint_without_an_address_waits_says_why_and_comes_back() -> None:
    network = FakeNetwork({"eth0": []})
    states: list[tuple[Reason | None, str]] = []
    async with keeping(network, "eth0") as scene:
        steps: list[Callable[[], None]] = [
            lambda: None,
            lambda: network.become({"eth0": ["10.0.0.5"]}),
            lambda: network.pull("eth0"),
            lambda: network.plug("eth0"),
        ]
        for step in steps:
            step()
            await wait_all_tasks_blocked()
            assert scene.board.here.value.hosts == tuple(filter(None, [scene.swarm.endpoint.host]))
            states.append((scene.problem, scene.swarm.endpoint.host))
        counted = scene.registry.get_sample_value("p2pd_refusals_total", {"reason": "no_network_address"})
    away, back = (Reason.NO_NETWORK_ADDRESS, ""), (None, "10.0.0.5")
    assert states == [away, back, away, back]
    assert counted == 2


async def test_a_port_that_is_taken_at_the_start_is_for_a_person_to_mend() -> None:
    taken = BadInput("10.0.0.5:7682", "the port is in use")
    with pytest.RaisesGroup(BadInput, flatten_subgroups=True):
        async with keeping(FakeNetwork({"eth0": ["10.0.0.5"]}), "eth0", failure=taken):
            pass


@pytest.mark.parametrize(
    "failure", [BadInput("10.0.0.6:7682", "the port is in use"), ServiceFailure("no such address")]
)
async def test_later_it_is_tried_again_and_the_rest_moves_on(failure: Exception, frozen_clock: MockClock) -> None:
    network = FakeNetwork({"eth0": ["10.0.0.5"]})
    async with keeping(network, "eth0") as scene:
        scene.follower.failure = failure
        network.become({"eth0": ["10.0.0.6"]})
        await wait_all_tasks_blocked()
        assert scene.board.here.value.hosts == ("10.0.0.6",)
        scene.follower.failure = None
        for _ in range(2):
            frozen_clock.jump(60)
            await wait_all_tasks_blocked()
        assert scene.follower.been == [("10.0.0.5",), ("10.0.0.6",), ("10.0.0.6",)]


async def test_servers_come_and_go_with_addresses_and_stay_where_nothing_changes() -> None:
    opened: list[str] = []
    closed: list[str] = []
    taken: set[str] = set()

    async def serve(host: str, *, task_status: trio.TaskStatus[None]) -> None:
        if host in taken:
            raise BadInput(host, "is in use")
        opened.append(host)
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            closed.append(host)

    def at(hosts: Sequence[str]) -> Whereabouts:
        return Whereabouts(hosts=tuple(hosts))

    async with trio.open_nursery() as nursery:
        listeners = Listeners(nursery, serve)
        await listeners.follow(at(["a", "b"]))
        taken.add("c")
        with pytest.raises(BadInput, match="c: is in use"):
            await listeners.follow(at(["c", "b", "d"]))
        await wait_all_tasks_blocked()
        assert (opened, closed) == (["a", "b", "d"], ["a"])
        taken.clear()
        await listeners.follow(at(["c", "b", "d"]))
        await listeners.follow(at([]))
        await wait_all_tasks_blocked()
        assert (opened, sorted(closed)) == (["a", "b", "d", "c"], ["a", "b", "c", "d"])
        await listeners.follow(at(["a"]))
        assert opened[-1] == "a"
        nursery.cancel_scope.cancel()
