# SPDX-License-Identifier: Apache-2.0
"""Trouble on one endpoint, which says nothing about the release: it waits, tries again, and condemns nothing."""

from p2pd.services.releases import REST_SECONDS
from signing.reasons import Reason
from signing.report import InstallState
from tests.simulator.world import World


async def test_an_installer_that_is_away_for_a_while_is_waited_for(world: World) -> None:
    (endpoint,) = await world.enrol(1)
    release = world.release("1.0")
    await world.until(lambda: endpoint.stands(release, InstallState.FETCHING))
    endpoint.installer.is_away = True
    await world.pass_time(300)
    assert InstallState.STAGED in endpoint.journal.states("1.0")
    assert endpoint.version is None
    problems = (await endpoint.ask("why"))["problems"]
    assert [problem["reason"] for problem in problems] == [Reason.INSTALLER_UNREACHABLE]
    endpoint.installer.is_away = False
    await world.all_committed(release)
    assert endpoint.journal.states("1.0").count(InstallState.FETCHING) == 1, "it waited, and did not begin anew"
    assert (await endpoint.ask("why"))["problems"] == []


async def test_an_installer_that_is_away_at_the_start_is_waited_for(world: World) -> None:
    (endpoint,) = await world.enrol(1)
    endpoint.kill()
    endpoint.installer.is_away = True
    await endpoint.start()
    release = world.release("1.0")
    await world.pass_time(300)
    assert endpoint.journal.history == [], "nothing can be decided before it is known what is installed"
    endpoint.installer.is_away = False
    await world.all_committed(release)


async def test_an_installer_that_dies_in_the_middle_is_asked_again(world: World) -> None:
    (endpoint,) = await world.enrol(1)
    release = world.release("1.0")
    await world.until(lambda: bool(endpoint.installer.inside.calls))
    endpoint.installer.is_away = True  # the answer will be lost
    await world.pass_time(60)
    endpoint.installer.is_away = False
    await world.all_committed(release)
    assert endpoint.journal.states("1.0").count(InstallState.INSTALLING) == 1


async def test_a_refusal_of_the_installer_is_final_and_told(world: World) -> None:
    (endpoint,) = await world.enrol(1)
    endpoint.installer.inside.fail_next("install", Reason.INSTALL_FAILED)
    release = world.release("1.0")
    await world.until(lambda: endpoint.stands(release, InstallState.FAILED))
    await world.pass_time(5 * REST_SECONDS)
    assert endpoint.installer.asked_for == ["1.0"]
    assert await endpoint.why(release) is Reason.INSTALL_FAILED
    (*_, last) = world.coordinator.reports_of(endpoint.device)
    assert (last.state, last.reason) == (InstallState.FAILED, Reason.INSTALL_FAILED)
    assert world.coordinator.rollout_of(release.sha256).state == "halted"


async def test_a_rollback_that_fails_is_told_and_not_repeated_for_ever(world: World) -> None:
    (endpoint,) = await world.enrol(1)
    good = world.release("1.0")
    await world.completed(good)
    endpoint.installer.inside.fail_next("rollback", Reason.ROLLBACK_FAILED)
    endpoint.probe.falls_ill("tzdata", "2.0")
    broken = world.release("2.0")
    await world.until(lambda: endpoint.stands(broken, InstallState.FAILED))
    await world.pass_time(5 * REST_SECONDS)
    assert await endpoint.why(broken) is Reason.ROLLBACK_FAILED
    assert endpoint.version == "2.0", "what could not be left is still in use"
    assert endpoint.journal.states("2.0").count(InstallState.ROLLING_BACK) == 1
    mended = world.release("2.1")
    await world.all_committed(mended)


async def test_a_full_disk_is_tried_again_after_a_rest(world: World) -> None:
    world.open_all_rings()
    first, second = await world.enrol(2)
    first.swarm.room_bytes = 1_000
    release = world.release("1.0")
    await world.until(lambda: first.stands(release, InstallState.FAILED))
    assert await first.why(release) is Reason.DISK_FULL
    await world.all_committed(release, [second])
    first.swarm.room_bytes = None
    freed_at = world.unix()
    await world.all_committed(release)
    assert world.unix() - freed_at <= REST_SECONDS + 90, "one rest, and the probation"
    assert world.coordinator.rollout_of(release.sha256).state != "halted", "a full disk is not the release's fault"


async def test_a_check_that_fails_once_is_forgiven_where_the_plan_says_so(world: World) -> None:
    (endpoint,) = await world.enrol(1)
    endpoint.probe.falls_ill("tzdata", "1.0", after_runs=2, for_runs=1)
    release = world.release("1.0", failures_allowed=1)
    await world.all_committed(release)
    assert InstallState.ROLLING_BACK not in endpoint.journal.states("1.0")
