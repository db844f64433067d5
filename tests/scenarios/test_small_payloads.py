# SPDX-License-Identifier: Apache-2.0
"""Many small payloads, which have no torrents: about one copy of each from the origin, whoever dies, lies, or is silent."""

from collections.abc import Sequence

from p2pd.decisions.ambassadors import Timing
from signing.report import InstallState
from tests.simulator.administrator import Release
from tests.simulator.endpoint import SimulatedEndpoint
from tests.simulator.world import World

COUNT = 8


def copies(world: World, releases: Sequence[Release]) -> float:
    return sum(world.origin.sent.values()) / sum(release.size for release in releases)


def stand(endpoint: SimulatedEndpoint, releases: Sequence[Release], *states: InstallState) -> bool:
    records = endpoint.agent.releases.records() if endpoint.is_ready else {}
    attempts = {release: records.get(release.manifest.product) for release in releases}
    return all(
        record is not None
        and record.attempt is not None
        and record.attempt.state in (states or (InstallState.COMMITTED,))
        for record in attempts.values()
    )


async def test_each_payload_leaves_the_origin_once(world: World) -> None:
    world.open_all_rings()
    endpoints = await world.enrol(4)
    releases = world.release_many("1.0", COUNT)
    await world.until(lambda: all(stand(endpoint, releases) for endpoint in endpoints))
    assert copies(world, releases) == 1
    assert len(world.origin.sent) > 1, "several endpoints share the work"
    assert all(not endpoint.swarm.transfers for endpoint in endpoints), "there is no torrent"
    for endpoint in endpoints:
        attempts = [record.attempt for record in endpoint.agent.releases.records().values()]
        assert all(attempt and attempt.bytes_lan + attempt.bytes_origin > 0 for attempt in attempts)


async def test_questions_do_not_grow_with_the_number_of_payloads(world: World) -> None:
    world.open_all_rings()
    endpoints = await world.enrol(4)
    releases = world.release_many("1.0", COUNT)
    await world.until(lambda: all(stand(endpoint, releases) for endpoint in endpoints))
    assert sum(world.small.questions.values()) < COUNT * len(endpoints)


async def test_a_late_joiner_fills_from_the_lan_with_the_origin_away(world: World) -> None:
    world.open_all_rings()
    endpoints = await world.enrol(3)
    (late,) = await world.enrol(1)
    late.kill()
    releases = world.release_many("1.0", COUNT)
    await world.until(lambda: all(stand(endpoint, releases) for endpoint in endpoints))
    world.payload_uplink.cut(late.device, *(endpoint.device for endpoint in endpoints))
    await late.start()
    await world.until(lambda: stand(late, releases))
    assert world.origin.sent[late.device] == 0
    assert copies(world, releases) <= 1.1


async def test_a_peer_that_lies_is_found_out_and_left_alone(world: World) -> None:
    world.open_all_rings()
    first, second, liar = await world.enrol(3)
    world.small.lies[liar.host] = lambda _, data: bytes(len(data))
    releases = world.release_many("1.0", COUNT)
    await world.until(lambda: all(stand(endpoint, releases) for endpoint in (first, second)))
    assert copies(world, releases) <= 2, "what the liar brought had to be brought again"
    assert world.small.sent[liar.host] <= 2 * sum(release.size for release in releases)


async def test_a_peer_that_never_answers_costs_two_stalls(world: World) -> None:
    world.open_all_rings()
    first, second, mute = await world.enrol(3)
    world.small.mute.add(mute.host)
    releases = world.release_many("1.0", COUNT, probation_seconds=0)
    began = world.unix()
    await world.until(lambda: all(stand(endpoint, releases) for endpoint in (first, second)))
    assert world.unix() - began <= 4 * Timing.stall
    assert copies(world, releases) <= 2


async def test_those_who_bring_die_and_others_take_over(world: World) -> None:
    world.open_all_rings()
    endpoints = await world.enrol(4)
    world.origin.bytes_per_second = 20_000
    releases = world.release_many("1.0", COUNT)
    total = sum(release.size for release in releases)
    await world.until(lambda: sum(world.origin.sent.values()) > total / 4)
    for dying in endpoints[:2]:
        dying.kill()
    await world.until(lambda: all(stand(endpoint, releases) for endpoint in endpoints[2:]))
    assert copies(world, releases) <= 1.7


async def test_a_restart_finds_what_is_on_disk_and_serves_it(world: World) -> None:
    world.open_all_rings()
    only, late = await world.enrol(2)
    late.kill()
    releases = world.release_many("1.0", COUNT)
    await world.until(lambda: stand(only, releases))
    only.kill()
    await only.start()
    world.payload_uplink.cut(only.device, late.device)
    await late.start()
    await world.until(lambda: stand(late, releases))
    assert copies(world, releases) == 1


async def test_a_withdrawn_payload_is_handed_to_nobody_any_more(world: World) -> None:
    world.open_all_rings()
    first, second = await world.enrol(2)
    release, *others = world.release_many("1.0", 4, probation_seconds=0)
    await world.until(lambda: all(stand(endpoint, [release, *others]) for endpoint in (first, second)))
    world.recall(release)
    await world.until(lambda: stand(first, [release], InstallState.ROLLED_BACK))
    await world.until(lambda: not first.holds(release))
    assert all(first.holds(other) for other in others)
    assert not first.installer.version_of(release.manifest.product)
