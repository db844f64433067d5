# SPDX-License-Identifier: Apache-2.0
"""A delta that nobody sends is not waited for without end, and an origin that is away for a while costs nothing."""

import pytest

from p2pd.decisions.transports import PATIENCE_SECONDS, REFUSED_SECONDS
from p2pd.ports_network import HostFacts
from signing.policy import DeltaFallback
from signing.reasons import Reason
from signing.report import InstallState
from tests.scenarios.deltas import delta_of, file_of, handed_over, received, set_fallback
from tests.simulator.administrator import Release
from tests.simulator.endpoint import SimulatedEndpoint
from tests.simulator.world import World


async def beside_a_neighbour_with_all(world: World) -> tuple[SimulatedEndpoint, Release, Release]:
    """An endpoint that has the release before, and does not run; another that came by the full transport."""
    world.open_all_rings()
    (old,) = await world.enrol(1)
    first = world.release_software("1.0")
    await world.all_committed(first)
    old.kill()
    second = world.release_software("1.1", first)
    (new,) = await world.enrol(1)
    await world.all_committed(second, [new])
    return old, first, second


async def test_a_delta_that_the_origin_lacks_gives_way_to_the_full_transport(world: World) -> None:
    world.open_all_rings()
    endpoints = await world.enrol(2)
    first = world.release_software("1.0")
    await world.all_committed(first)
    sent_before = sum(world.origin.sent.values())
    second = world.release_software("1.1", first)
    delta = delta_of(second, first)
    with world.missing_at_origin(delta.content.sha256):
        await world.pass_time(REFUSED_SECONDS - 60)
        assert all(endpoint.stands(second, InstallState.FETCHING) for endpoint in endpoints)
        await world.all_committed(second)
    for endpoint in endpoints:
        assert handed_over(endpoint) == second.transport_sha256
    assert sum(world.origin.sent.values()) - sent_before <= 1.1 * second.size, "one copy for the site"


async def test_meanwhile_people_are_told_why(world: World) -> None:
    world.open_all_rings()
    (endpoint,) = await world.enrol(1)
    first = world.release_software("1.0")
    await world.all_committed(first)
    world.origin.bytes_per_second = 500
    second = world.release_software("1.1", first)
    with world.missing_at_origin(delta_of(second, first).content.sha256):
        await world.pass_time(REFUSED_SECONDS - 60)
        assert await endpoint.why(second) is Reason.ORIGIN_REFUSED
        await world.pass_time(3 * PATIENCE_SECONDS)
        assert await endpoint.why(second) is Reason.DELTA_OUT_OF_REACH


async def test_an_endpoint_that_is_cut_off_takes_what_its_neighbour_has(world: World) -> None:
    old, first, second = await beside_a_neighbour_with_all(world)
    delta = delta_of(second, first).content
    half = file_of(old, delta.sha256, second)
    half.parent.mkdir()
    half.write_bytes(bytes(delta.size))
    world.payload_uplink.cut()
    await old.start()
    await world.until(lambda: old.has_committed(second), within=2 * PATIENCE_SECONDS + 120)
    assert handed_over(old) == second.transport_sha256
    assert received(old) == second.size
    assert not half.exists(), "what has begun to come is not held out as if it were whole"


async def test_so_does_one_that_may_not_ask_the_origin(world: World) -> None:
    old, first, second = await beside_a_neighbour_with_all(world)
    old.looks.facts = HostFacts(is_metered=True)
    await old.start()
    await world.until(lambda: old.has_committed(second), within=2 * PATIENCE_SECONDS + 120)
    assert world.origin.sent[old.device] == first.size, "of the release before"


async def test_an_origin_that_is_away_for_long_costs_no_more_than_the_delta(world: World) -> None:
    world.open_all_rings()
    endpoints = await world.enrol(2)
    first = world.release_software("1.0")
    await world.all_committed(first)
    world.payload_uplink.cut()
    second = world.release_software("1.1", first)
    await world.pass_time(3 * REFUSED_SECONDS)
    world.payload_uplink.mend()
    await world.all_committed(second)
    assert {received(endpoint) for endpoint in endpoints} == {delta_of(second, first).content.size}


async def test_where_the_policy_forbids_the_full_transport_the_delta_is_waited_for(world: World) -> None:
    world.open_all_rings()
    (endpoint,) = await world.enrol(1)
    first = world.release_software("1.0")
    await world.completed(first)
    set_fallback(world, DeltaFallback.NEVER)
    second = world.release_software("1.1", first)
    with world.missing_at_origin(delta_of(second, first).content.sha256):
        await world.pass_time(3 * REFUSED_SECONDS)
        assert await endpoint.why(second) is Reason.ORIGIN_REFUSED
    await world.all_committed(second)
    assert handed_over(endpoint) == second.manifest.payload.sha256


@pytest.mark.parametrize("dies", [False, True])
async def test_an_installer_from_before_deltas_gets_the_full_transport(world: World, *, dies: bool) -> None:
    """It refuses what a delta made, which says nothing against the release."""
    world.open_all_rings()
    (endpoint,) = await world.enrol(1)
    first = world.release_software("1.0")
    await world.completed(first)
    endpoint.installer.inside.fail_next("install", Reason.PAYLOAD_MISMATCH)
    second = world.release_software("1.1", first)
    await world.until(lambda: endpoint.stands(second, InstallState.FAILED))
    assert endpoint.attempt is not None
    assert endpoint.attempt.reason is Reason.DELTA_FAILED
    assert "restarted since the upgrade" in endpoint.attempt.detail
    if dies:
        await world.pass_time(1)
        endpoint.kill()
        await endpoint.start()
    await world.all_committed(second)
    made, whole = (path.parent.name for path in endpoint.installer.transports[-2:])
    assert (made, whole) == (second.manifest.payload.sha256, second.transport_sha256)
    assert endpoint.agent.releases.records()[second.manifest.product].quarantined == ()


async def test_a_full_transport_that_is_refused_too_quarantines_the_release(world: World) -> None:
    world.open_all_rings()
    (endpoint,) = await world.enrol(1)
    first = world.release_software("1.0")
    await world.completed(first)
    for _ in range(2):
        endpoint.installer.inside.fail_next("install", Reason.PAYLOAD_MISMATCH)
    second = world.release_software("1.1", first)
    await world.until(lambda: second.sha256 in endpoint.agent.releases.records()[second.manifest.product].quarantined)
    assert endpoint.attempt is not None
    assert endpoint.attempt.reason is Reason.PAYLOAD_MISMATCH
    assert handed_over(endpoint) == second.transport_sha256
