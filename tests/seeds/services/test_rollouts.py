# SPDX-License-Identifier: Apache-2.0
"""The loop takes steps when poked, when a soak ends, and every now and then; never two at once."""

from collections.abc import Callable
from typing import TypeVar

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from p2pd.host.wall_clock import WallClock
from seeds.adapters.metrics import CoordinatorMetrics
from seeds.records import Rollout, RolloutState
from seeds.services.changes import Changes
from seeds.services.rollouts import Pace, Rollouts, RolloutsStalled, StepOutcome
from seeds.services.worker import Worker
from tests.fakes.frozen_clock import FrozenWallClock

ROLLOUT = Rollout(
    manifest_sha256="0" * 64,
    product="tzdata",
    version="1",
    release_counter=1,
    segments=("office",),
    state=RolloutState.RUNNING,
    open_rings=1,
)


T = TypeVar("T")


class InlineWorker(Worker):
    """Runs calls in place: a thread would look idle to the frozen clock."""

    async def run(self, call: Callable[[], T]) -> T:
        await trio.lowlevel.checkpoint()
        return call()


class Loop:
    """A rollout loop whose steps are counted."""

    def __init__(self, clock: WallClock) -> None:
        self.steps = 0
        self.due: float | None = None
        self.problem: Exception | None = None
        self.changes = Changes(1)
        self.metrics = CoordinatorMetrics(lambda: 0.0)
        self.rollouts = Rollouts(
            take_step=self._step,
            worker=InlineWorker(),
            changes=self.changes,
            clock=clock,
            metrics=self.metrics,
            pace=Pace(recheck_seconds=30, settle_seconds=0.25, answer_seconds=10),
        )

    def _step(self) -> StepOutcome:
        self.steps += 1
        if self.problem:
            raise self.problem
        return StepOutcome(timestamp_version=self.steps, due=self.due, rollouts=(ROLLOUT,), devices=())


@pytest.fixture
def loop(wall_clock: FrozenWallClock) -> Loop:
    return Loop(wall_clock)


async def jump(clock: MockClock, seconds: float) -> None:
    """Let `seconds` pass, and everything happen that they bring."""
    clock.jump(seconds)
    await wait_all_tasks_blocked()


async def test_it_is_ready_after_the_first_step(loop: Loop, nursery: trio.Nursery) -> None:
    await nursery.start(loop.rollouts.run)
    assert loop.steps == 1
    assert loop.rollouts.outcome is not None
    assert loop.rollouts.outcome.rollouts == (ROLLOUT,)
    labels = {"product": "tzdata", "state": "running"}
    assert loop.metrics.registry.get_sample_value("seeds_rollout_state", labels) == 1


async def test_it_looks_again_by_itself(loop: Loop, nursery: trio.Nursery, frozen_clock: MockClock) -> None:
    await nursery.start(loop.rollouts.run)
    await wait_all_tasks_blocked()
    await jump(frozen_clock, 29)
    assert loop.steps == 1
    await jump(frozen_clock, 1)
    await jump(frozen_clock, 0.25)
    assert loop.steps == 2


async def test_pokes_in_a_burst_make_one_step_and_wake_who_waits(
    loop: Loop, nursery: trio.Nursery, frozen_clock: MockClock
) -> None:
    await nursery.start(loop.rollouts.run)
    await wait_all_tasks_blocked()
    for _ in range(5):
        loop.rollouts.poke()
    await wait_all_tasks_blocked()
    assert (loop.steps, loop.changes.version) == (1, 1)
    await jump(frozen_clock, 0.25)
    assert (loop.steps, loop.changes.version) == (2, 2)
    await jump(frozen_clock, 10)
    assert loop.steps == 2


async def test_a_poke_during_a_step_is_not_lost(loop: Loop, nursery: trio.Nursery, frozen_clock: MockClock) -> None:
    loop.rollouts.poke()
    await nursery.start(loop.rollouts.run)
    loop.rollouts.poke()  # after the step began to look, before it sleeps
    await wait_all_tasks_blocked()
    await jump(frozen_clock, 0.25)
    assert loop.steps == 2


async def test_the_end_of_a_soak_is_not_waited_beyond(
    loop: Loop, wall_clock: FrozenWallClock, nursery: trio.Nursery, frozen_clock: MockClock
) -> None:
    loop.due = wall_clock.now().timestamp() + 5
    await nursery.start(loop.rollouts.run)
    await wait_all_tasks_blocked()
    await jump(frozen_clock, 5)
    await jump(frozen_clock, 0.25)
    assert loop.steps == 2


async def test_recompute_answers_with_a_step_that_began_after_it(
    loop: Loop, nursery: trio.Nursery, frozen_clock: MockClock
) -> None:
    await nursery.start(loop.rollouts.run)
    answers: list[int] = []

    async def ask() -> None:
        answers.append((await loop.rollouts.recompute()).timestamp_version)

    nursery.start_soon(ask)
    await wait_all_tasks_blocked()
    assert answers == [2]  # at once, for somebody waits
    loop.rollouts.poke()
    await wait_all_tasks_blocked()
    assert loop.steps == 2
    nursery.start_soon(ask)  # while a burst of reports settles
    await wait_all_tasks_blocked()
    assert answers == [2, 3]
    await jump(frozen_clock, 10)
    assert loop.steps == 3


async def test_recompute_does_not_wait_for_ever(loop: Loop, nursery: trio.Nursery, frozen_clock: MockClock) -> None:
    problems: list[str] = []

    async def ask() -> None:
        try:
            await loop.rollouts.recompute()
        except RolloutsStalled as problem:
            problems.append(str(problem))

    nursery.start_soon(ask)
    await wait_all_tasks_blocked()
    await jump(frozen_clock, 10)
    assert problems == ["no step was finished within 10 s"]


async def test_what_stalls_a_step_leaves_for_the_supervisor(loop: Loop) -> None:
    loop.problem = RolloutsStalled("disk full")
    with pytest.raises(RolloutsStalled):
        await loop.rollouts.run()
