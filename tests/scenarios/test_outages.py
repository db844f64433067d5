# SPDX-License-Identifier: Apache-2.0
"""The coordinator, the origin, or the whole internet is away; a site goes on as far as it can."""

from signing.reasons import Reason
from signing.report import InstallState
from tests.scenarios.good_way import is_good_way
from tests.simulator.endpoint import SimulatedEndpoint
from tests.simulator.world import World


def told(world: World, endpoint: SimulatedEndpoint) -> list[InstallState]:
    return [report.state for report in world.coordinator.reports_of(endpoint.device)]


async def test_reports_wait_for_the_coordinator_and_arrive_in_order(world: World) -> None:
    world.open_all_rings()
    endpoints = await world.enrol(3)
    release = world.release("1.0")
    await world.until(lambda: any(endpoint.version for endpoint in endpoints))
    world.coordinator_uplink.cut()
    await world.all_committed(release)
    await world.pass_time(200)
    assert not any(InstallState.COMMITTED in told(world, endpoint) for endpoint in endpoints)
    assert world.coordinator.rollout_of(release.sha256).state == "running", "no evidence is no success"
    world.coordinator_uplink.mend()
    await world.until(lambda: all(InstallState.COMMITTED in told(world, endpoint) for endpoint in endpoints))
    assert all(is_good_way(told(world, endpoint)) for endpoint in endpoints)
    await world.until(lambda: world.coordinator.rollout_of(release.sha256).state == "complete")


async def test_reports_whose_answers_are_lost_are_kept_once(world: World) -> None:
    (endpoint,) = await world.enrol(1)
    world.coordinator.loses_answers = True
    release = world.release("1.0")
    await world.all_committed(release)
    await world.pass_time(200)
    world.coordinator.loses_answers = False
    await world.pass_time(120)
    states = told(world, endpoint)
    assert is_good_way(states)
    sequences = [report.sequence for report in world.coordinator.reports_of(endpoint.device)]
    assert sequences == list(range(1, len(states) + 1))


async def test_a_coordinator_that_refuses_everything_stops_nobody(world: World) -> None:
    """A static mirror of the origin has no coordinator behind it, and a proxy may forbid it."""
    world.open_all_rings()
    endpoints = await world.enrol(2)
    world.coordinator.refuses_everything = True
    release = world.release("1.0")
    await world.all_committed(release)
    world.coordinator.refuses_everything = False
    await world.until(lambda: all(is_good_way(told(world, endpoint)) for endpoint in endpoints))


async def test_a_site_that_is_cut_off_finishes_from_its_lan(world: World) -> None:
    world.open_all_rings()
    endpoints = await world.enrol(3)
    release = world.release("1.0", pieces=200)
    await world.until(lambda: sum(world.origin.sent.values()) == release.size)
    world.cut_off()
    assert not any(InstallState.STAGED in endpoint.journal.states("1.0") for endpoint in endpoints)
    await world.all_committed(release)
    assert world.copies(release) <= 1.1
    world.mend()
    await world.until(lambda: all(is_good_way(told(world, endpoint)) for endpoint in endpoints))


async def test_metadata_travels_from_peer_to_peer(world: World) -> None:
    """Only one of them has internet when a release comes out."""
    world.open_all_rings()
    lucky, *cut_off = await world.enrol(3)
    await world.pass_time(30)
    world.cut_off(*cut_off)
    release = world.release("1.0")
    await world.all_committed(release)
    assert set(world.origin.sent) == {lucky.device}
    assert not any(told(world, endpoint) for endpoint in cut_off)
    world.mend()
    await world.until(lambda: all(is_good_way(told(world, endpoint)) for endpoint in cut_off))


async def test_a_peer_that_does_not_answer_at_first_is_asked_again(world: World) -> None:
    """Its announcement stays the same for up to an hour."""
    world.open_all_rings()
    lucky, cut_off = await world.enrol(2)
    await world.pass_time(30)
    world.cut_off(cut_off)
    lucky.serves_mirror = False
    release = world.release("1.0")
    await world.all_committed(release, [lucky])
    await world.pass_time(60)
    lucky.serves_mirror = True
    await world.until(lambda: cut_off.has_committed(release), within=600)


async def test_an_endpoint_that_starts_offline_knows_what_it_knew(world: World) -> None:
    world.open_all_rings()
    _, behind = await world.enrol(2)
    release = world.release("1.0", pieces=200)
    await world.until(lambda: sum(world.origin.sent.values()) == release.size)
    await world.until(lambda: all(map(world.origin.sent.__contains__, ("pc-1", "pc-2"))))
    behind.kill()
    world.cut_off()
    await behind.start()
    await world.all_committed(release)
    assert world.copies(release) <= 1.1


async def test_expired_metadata_stops_new_installs_and_nothing_else(world: World) -> None:
    world.open_all_rings()
    endpoints = await world.enrol(2)
    before = world.release("1.0")
    await world.all_committed(before)
    world.payload_uplink.cut()
    release = world.release("2.0")
    await world.until(lambda: all(endpoint.stands(release, InstallState.FETCHING) for endpoint in endpoints))
    world.coordinator.stop()
    world.sleep_through(2 * 86_400)
    world.payload_uplink.mend()
    await world.until(lambda: all(endpoint.stands(release, InstallState.FAILED) for endpoint in endpoints))
    await world.pass_time(400)  # long enough for a refresh that nothing has called for
    assert [endpoint.version for endpoint in endpoints] == ["1.0", "1.0"]
    assert [await endpoint.why(release) for endpoint in endpoints] == [Reason.METADATA_EXPIRED] * 2
    problem = (await endpoints[0].ask("status"))["metadata"]["problem"]
    assert problem["reason"] == Reason.METADATA_EXPIRED
    await world.revive_coordinator()
    await world.all_committed(release)


async def test_expired_metadata_does_not_keep_anybody_from_going_back(world: World) -> None:
    world.open_all_rings()
    endpoints = await world.enrol(2)
    good = world.release("1.0")
    await world.all_committed(good)
    broken = world.release("2.0", probation_seconds=3_600.0)
    await world.until(lambda: all(endpoint.stands(broken, InstallState.PROBATION) for endpoint in endpoints))
    world.cut_off()
    world.sleep_through(2 * 86_400)
    await world.pass_time(300)
    assert [endpoint.version for endpoint in endpoints] == ["2.0", "2.0"], "what runs, runs on"
    for endpoint in endpoints:
        endpoint.probe.falls_ill("tzdata", "2.0")
    await world.until(lambda: all(endpoint.stands(broken, InstallState.ROLLED_BACK) for endpoint in endpoints))
    assert [endpoint.version for endpoint in endpoints] == ["1.0", "1.0"]


async def test_a_restart_with_expired_metadata_still_goes_back(world: World) -> None:
    (endpoint,) = await world.enrol(1)
    good = world.release("1.0")
    await world.all_committed(good)
    broken = world.release("2.0", probation_seconds=3_600.0)
    await world.until(lambda: endpoint.stands(broken, InstallState.PROBATION))
    endpoint.kill()
    world.cut_off()
    world.sleep_through(2 * 86_400)
    endpoint.probe.falls_ill("tzdata", "2.0")
    await endpoint.start()
    await world.until(lambda: endpoint.stands(broken, InstallState.ROLLED_BACK))
    assert endpoint.version == "1.0"
