# SPDX-License-Identifier: Apache-2.0
"""Metered links, VPNs and batteries: endpoints wait as the policy says, tell why, and go on when it is over."""

from dataclasses import replace

from p2pd.decisions.ambassadors import Timing
from p2pd.ports_network import HostFacts
from p2pd.services.limiting import LOOK_SECONDS
from signing.reasons import Reason
from signing.report import InstallState
from tests.simulator.world import World

METERED = HostFacts(is_metered=True)


async def test_nothing_is_fetched_over_a_metered_link_until_it_is_another(world: World) -> None:
    (endpoint,) = await world.enrol(1)
    endpoint.looks.facts = METERED
    await world.pass_time(2 * LOOK_SECONDS)
    release = world.release("1.0")
    await world.pass_time(600)
    assert await endpoint.why(release) is Reason.LINK_METERED
    assert world.origin.sent[endpoint.device] == 0
    (problem,) = (await endpoint.ask("why"))["problems"]
    assert problem["reason"] == Reason.LINK_METERED
    assert "nothing is fetched from the origin" in problem["detail"]
    endpoint.looks.facts = HostFacts()
    await world.all_committed(release)
    assert (await endpoint.ask("why"))["problems"] == []


async def test_what_a_neighbour_has_comes_over_the_lan_all_the_same(world: World) -> None:
    endpoints = await world.enrol(2)
    release = world.release("1.0")
    await world.until(lambda: any(endpoint.version for endpoint in endpoints))
    canary, metered = sorted(endpoints, key=lambda endpoint: endpoint.version is None)
    metered.looks.facts = METERED
    await world.all_committed(release)
    assert world.origin.sent[metered.device] == 0
    assert world.origin.sent[canary.device] == release.size


async def test_an_endpoint_on_a_low_battery_takes_and_does_not_give(world: World) -> None:
    (endpoint,) = await world.enrol(1)
    low = replace(endpoint.looks.facts, battery_percent=20.0)
    endpoint.looks.facts = low
    await world.pass_time(2 * LOOK_SECONDS)
    assert endpoint.swarm.upload == 0
    (problem,) = (await endpoint.ask("why"))["problems"]
    assert problem["reason"] == Reason.BATTERY_LOW
    await world.all_committed(world.release("1.0"))
    endpoint.looks.facts = HostFacts()
    await world.pass_time(2 * LOOK_SECONDS)
    assert endpoint.swarm.upload is None


async def test_nobody_waits_for_an_ambassador_that_may_not_use_the_wan(world: World) -> None:
    """The best-ranked are on a metered network: the next ones fetch at once, and not after a stall for each of them."""
    world.open_all_rings()
    endpoints = await world.enrol(6)
    for endpoint in endpoints[:3]:
        endpoint.looks.facts = METERED
    await world.pass_time(2 * LOOK_SECONDS)
    began, release = world.unix(), world.release("1.0", pieces=48)
    await world.until(
        lambda: all(endpoint.journal.states("1.0")[-1:] == [InstallState.PROBATION] for endpoint in endpoints)
    )
    assert world.unix() - began < Timing().stall
    assert world.copies(release) == 1.0
    assert [world.origin.sent[endpoint.device] for endpoint in endpoints[:3]] == [0, 0, 0]


async def test_where_no_endpoint_may_use_the_wan_none_does_and_all_say_why(world: World) -> None:
    world.open_all_rings()
    endpoints = await world.enrol(3)
    for endpoint in endpoints:
        endpoint.looks.facts = METERED
    await world.pass_time(2 * LOOK_SECONDS)
    release = world.release("1.0")
    await world.pass_time(600)
    assert [await endpoint.why(release) for endpoint in endpoints] == 3 * [Reason.LINK_METERED]
    for endpoint in endpoints:
        (product,) = (await endpoint.ask("status"))["products"]
        assert product["attempt"]["reason"] == Reason.LINK_METERED
        assert (await endpoint.ask("status"))["network"]["problem"]["reason"] == Reason.LINK_METERED
    assert world.origin.sent.total() == 0
    endpoints[0].looks.facts = HostFacts()
    await world.all_committed(release)
    assert world.copies(release) == 1.0
