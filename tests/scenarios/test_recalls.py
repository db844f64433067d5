# SPDX-License-Identifier: Apache-2.0
"""A signed recall undoes a release wherever it has come to, and nobody installs it any more."""

from signing.reasons import Reason
from signing.report import InstallState
from tests.simulator.world import World


async def test_a_recall_during_probation_sends_the_canary_back(world: World) -> None:
    endpoints = await world.enrol(3)
    good = world.release("1.0")
    await world.completed(good)
    bad = world.release("2.0")
    await world.until(lambda: any(endpoint.stands(bad, InstallState.PROBATION) for endpoint in endpoints))
    world.recall(bad)
    canary = world.canary_of(bad)
    await world.until(lambda: canary.stands(bad, InstallState.ROLLED_BACK), within=60)
    await world.pass_time(400)
    assert [endpoint.version for endpoint in endpoints] == ["1.0"] * 3
    assert [await endpoint.why(bad) for endpoint in endpoints] == [Reason.RECALLED] * 3
    assert canary.journal.states("2.0")[-3:] == [
        InstallState.PROBATION,
        InstallState.ROLLING_BACK,
        InstallState.ROLLED_BACK,
    ]


async def test_a_recall_of_a_committed_release_sends_everybody_back(world: World) -> None:
    endpoints = await world.enrol(3)
    good = world.release("1.0")
    await world.completed(good)
    bad = world.release("2.0")
    await world.all_committed(bad)
    world.recall(bad)
    await world.until(lambda: all(endpoint.version == "1.0" for endpoint in endpoints), within=60)
    await world.until(lambda: all(endpoint.stands(bad, InstallState.ROLLED_BACK) for endpoint in endpoints))
    (late,) = await world.enrol(1)
    await world.until(lambda: late.has_committed(good))
    await world.pass_time(300)
    assert late.installer.asked_for == ["1.0"]
    assert await late.why(bad) is Reason.RECALLED
    for endpoint in endpoints:
        states = [report.state for report in world.coordinator.reports_of(endpoint.device) if report.version == "2.0"]
        assert states[-3:] == [InstallState.COMMITTED, InstallState.ROLLING_BACK, InstallState.ROLLED_BACK]
    mended = world.release("2.1")
    await world.all_committed(mended)


async def test_a_recall_of_the_only_release_leaves_nothing_in_use(world: World) -> None:
    endpoints = await world.enrol(2)
    bad = world.release("1.0")
    await world.all_committed(bad)
    world.recall(bad)
    await world.until(lambda: not any(endpoint.version for endpoint in endpoints), within=60)
    (late,) = await world.enrol(1)
    await world.pass_time(300)
    assert late.installer.asked_for == []
    assert await late.why(bad) is Reason.RECALLED


async def test_a_recall_while_it_is_still_on_its_way(world: World) -> None:
    world.open_all_rings()
    endpoints = await world.enrol(3)
    world.payload_uplink.cut()
    bad = world.release("1.0")
    await world.until(lambda: all(endpoint.stands(bad, InstallState.FETCHING) for endpoint in endpoints))
    world.recall(bad)
    await world.until(lambda: all(endpoint.stands(bad, InstallState.FAILED) for endpoint in endpoints), within=60)
    world.payload_uplink.mend()
    await world.pass_time(300)
    assert world.copies(bad) == 0
    assert not any(endpoint.installer.asked_for for endpoint in endpoints)
    assert [await endpoint.why(bad) for endpoint in endpoints] == [Reason.RECALLED] * 3


async def test_a_recall_of_what_is_in_use_counts_even_after_a_later_release_failed(world: World) -> None:
    (endpoint,) = await world.enrol(1)
    first, second = world.release("1.0"), None
    await world.all_committed(first)
    second = world.release("2.0")
    await world.all_committed(second)
    endpoint.probe.falls_ill("tzdata", "3.0")
    third = world.release("3.0")
    await world.until(lambda: endpoint.stands(third, InstallState.ROLLED_BACK))
    world.recall(second)
    await world.until(lambda: endpoint.version == "1.0", within=120)


async def test_a_recall_reaches_an_endpoint_without_internet_through_its_peers(world: World) -> None:
    world.open_all_rings()
    lucky, cut_off = await world.enrol(2)
    bad = world.release("1.0")
    await world.all_committed(bad)
    world.cut_off(cut_off)
    world.recall(bad)
    await world.until(lambda: lucky.version is None and cut_off.version is None, within=120)


async def test_a_release_that_was_recalled_while_the_endpoint_slept_goes_back_when_it_wakes(world: World) -> None:
    world.open_all_rings()
    awake, asleep = await world.enrol(2)
    good = world.release("1.0")
    await world.completed(good)
    bad = world.release("2.0")
    await world.all_committed(bad)
    asleep.kill()
    world.recall(bad)
    await world.until(lambda: awake.version == "1.0", within=120)
    await asleep.start()
    await world.until(lambda: asleep.version == "1.0", within=120)
