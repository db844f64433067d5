# SPDX-License-Identifier: Apache-2.0
"""The power goes at every state that an attempt can be in; afterwards it goes on as if nothing had been."""

import itertools
from functools import partial

import pytest

from p2pd.decisions.install_machine import TRANSITIONS
from signing.reasons import Reason
from signing.report import InstallState
from tests.scenarios.good_way import GOOD_WAY, is_good_way
from tests.simulator.endpoint import SimulatedEndpoint
from tests.simulator.watched_journal import Moment
from tests.simulator.world import World

UNTOUCHED = frozenset(GOOD_WAY[: GOOD_WAY.index(InstallState.INSTALLING)])  # states in which nothing is installed yet
WAY_BACK = [InstallState.PROBATION, InstallState.ROLLING_BACK, InstallState.ROLLED_BACK]
SECONDS_OFF = 5.0


async def power_cut(world: World, endpoint: SimulatedEndpoint, state: InstallState, moment: Moment) -> None:
    """Wait for the endpoint to die at `state`, and start it again."""
    endpoint.journal.pull_plug_at(state, moment, endpoint.kill)
    await world.until(lambda: not endpoint.is_alive)
    await world.pass_time(SECONDS_OFF)
    await endpoint.start()


def assert_no_state_skipped(states: list[InstallState]) -> None:
    """Each step is one of the machine's, or an attempt that had touched nothing begins anew."""
    steps = {(before, after) for (before, _), after in TRANSITIONS.items()}
    for before, after in itertools.pairwise(states):
        begins_anew = before in UNTOUCHED and after is InstallState.FETCHING
        assert (before, after) in steps or begins_anew, f"{before} → {after} in {states}"


@pytest.mark.parametrize("moment", Moment)
@pytest.mark.parametrize("state", GOOD_WAY)
async def test_a_power_cut_on_the_good_way(world: World, state: InstallState, moment: Moment) -> None:
    world.open_all_rings()
    world.origin.bytes_per_second = 200_000  # so that the LAN keeps up, and a death loses next to nothing
    cut, other = await world.enrol(2)
    release = world.release("1.0")
    await power_cut(world, cut, state, moment)
    await world.all_committed(release)
    states = cut.journal.states("1.0")
    assert_no_state_skipped(states)
    assert states.count(InstallState.COMMITTED) == 1
    assert set(cut.installer.asked_for) == {"1.0"}
    assert world.copies(release) <= 1.25, "pieces that are on disk are not fetched again"
    told = [report.state for report in await world.told(cut, InstallState.COMMITTED)]
    assert told[-1:] == [InstallState.COMMITTED]
    assert told.count(InstallState.COMMITTED) == 1, "it is told for certain, and once"
    assert other.journal.states("1.0") == GOOD_WAY


@pytest.mark.parametrize("moment", Moment)
@pytest.mark.parametrize("state", WAY_BACK)
async def test_a_power_cut_on_the_way_back(world: World, state: InstallState, moment: Moment) -> None:
    (endpoint,) = await world.enrol(1)
    good = world.release("1.0")
    await world.all_committed(good)
    endpoint.probe.falls_ill("tzdata", "2.0", after_runs=1)
    broken = world.release("2.0")
    await power_cut(world, endpoint, state, moment)
    await world.until(lambda: endpoint.stands(broken, InstallState.ROLLED_BACK))
    assert_no_state_skipped(endpoint.journal.states("2.0"))
    assert endpoint.journal.states("2.0")[-3:] == WAY_BACK
    await world.pass_time(200)
    assert endpoint.journal.states("2.0")[-3:] == WAY_BACK, "it is in quarantine, also after a restart"
    assert endpoint.version == "1.0"
    assert await endpoint.why(broken) is Reason.HEALTH_CHECK_FAILED
    await world.until(lambda: world.coordinator.rollout_of(broken.sha256).state == "halted")


async def test_a_power_cut_in_mid_transfer_keeps_the_pieces(world: World) -> None:
    (endpoint,) = await world.enrol(1)
    world.origin.bytes_per_second = 200_000
    release = world.release("1.0", pieces=120)
    for fifth in range(1, 4):
        await world.until(partial(world.has_left_origin, release, fifth / 5))
        endpoint.kill()
        await world.pass_time(SECONDS_OFF)
        await endpoint.start()
    await world.all_committed(release)
    assert world.copies(release) <= 1.1


async def test_a_daemon_that_dies_while_the_installer_works_finds_the_work_done(world: World) -> None:
    """p2pd-install goes on by itself: it is busy at first, and done when it is asked again."""
    (endpoint,) = await world.enrol(1)
    endpoint.installer.inside.seconds = 30.0
    release = world.release("1.0")
    await world.until(lambda: bool(endpoint.installer.inside.calls))
    endpoint.kill()
    await world.pass_time(SECONDS_OFF)
    await endpoint.start()
    await world.until(lambda: endpoint.has_committed(release))
    assert_no_state_skipped(endpoint.journal.states("1.0"))


async def test_a_release_that_was_recalled_while_the_daemon_was_dead_is_undone(world: World) -> None:
    """p2pd-install had brought it in by then; to be refused now would leave it in use and nobody watching."""
    (endpoint,) = await world.enrol(1)
    good = world.release("1.0")
    await world.completed(good)
    endpoint.installer.inside.seconds = 30.0
    bad = world.release("2.0")
    await world.until(lambda: endpoint.stands(bad, InstallState.INSTALLING))
    endpoint.kill()
    await world.pass_time(60)
    assert endpoint.version == "2.0"
    world.recall(bad)
    endpoint.installer.inside.recall(bad.sha256)
    await endpoint.start()
    await world.until(lambda: endpoint.stands(bad, InstallState.ROLLED_BACK))
    assert endpoint.version == "1.0"
    assert_no_state_skipped(endpoint.journal.states("2.0"))


async def test_a_restart_after_the_end_tells_nothing_again(world: World) -> None:
    (endpoint,) = await world.enrol(1)
    release = world.release("1.0")
    await world.completed(release)
    for _ in range(3):
        endpoint.kill()
        await endpoint.start()
        await world.pass_time(30)
    assert is_good_way([report.state for report in world.coordinator.reports_of(endpoint.device)])


async def test_a_release_on_probation_whose_record_was_lost_is_proved_again(world: World) -> None:
    (endpoint,) = await world.enrol(1)
    release = world.release("1.0", probation_seconds=600.0)
    await world.until(lambda: endpoint.stands(release, InstallState.PROBATION))
    endpoint.kill()
    endpoint.journal.damage()
    await endpoint.start()
    await world.until(lambda: endpoint.has_committed(release))
    newer = world.release("1.1")
    await world.all_committed(newer)


async def test_a_lost_record_of_something_that_is_offered_no_more_is_undone(world: World) -> None:
    (endpoint,) = await world.enrol(1)
    good = world.release("1.0")
    await world.completed(good)
    doubtful = world.release("2.0", probation_seconds=3_600.0)
    await world.until(lambda: endpoint.stands(doubtful, InstallState.PROBATION))
    endpoint.kill()
    endpoint.journal.damage()
    world.cut_off()
    world.sleep_through(2 * 86_400)
    await endpoint.start()
    await world.until(lambda: endpoint.version == "1.0")
