# SPDX-License-Identifier: Apache-2.0
"""The loop that moves rollouts: evidence → decisions → signed schedules → whoever waits for news."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import trio

from p2pd.host.latest import Latest, first_of
from p2pd.host.supervise import ServiceFailure
from p2pd.host.wall_clock import WallClock
from seeds.adapters.metrics import CoordinatorMetrics
from seeds.decisions.fleet_step import newest_of_each
from seeds.records import Device, Rollout
from seeds.services.changes import Changes
from seeds.services.worker import Worker

REST = 2.0  # at most a third of the time goes into steps


class RolloutsStalled(ServiceFailure):
    """The repository or the store could not be read or written; the rollouts stand still until it can be."""


@dataclass(frozen=True, kw_only=True)
class StepOutcome:
    """What one step left behind. `due` is when the next soak ends, as Unix time."""

    timestamp_version: int
    due: float | None
    rollouts: tuple[Rollout, ...]
    devices: tuple[Device, ...]


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How often to look. Bursts of reports within `settle_seconds` make one step."""

    recheck_seconds: float = 30.0
    settle_seconds: float = 0.2
    answer_seconds: float = 30.0  # how long `recompute` waits for its step


class Rollouts:
    """Runs steps, one at a time: when poked, when a soak ends, and every now and then."""

    def __init__(
        self,
        *,
        take_step: Callable[[], StepOutcome],
        worker: Worker,
        changes: Changes,
        clock: WallClock,
        metrics: CoordinatorMetrics,
        pace: Pace,
    ) -> None:
        self._take_step = take_step
        self._worker = worker
        self._changes = changes
        self._clock = clock
        self._metrics = metrics
        self._pace = pace
        self._asked = Latest(0)
        self._urgent = Latest(0)  # up to which of what was asked somebody waits for the answer
        self._answered = Latest(0)
        self._outcome: StepOutcome | None = None

    @property
    def outcome(self) -> StepOutcome | None:
        """What the last step left behind; None before the first."""
        return self._outcome

    def poke(self) -> None:
        """Something may have changed: take a step soon. May be called often."""
        self._asked.set(self._asked.value + 1)

    async def recompute(self) -> StepOutcome:
        """Take a step at once and return what it left behind. Raises RolloutsStalled when it does not come about.

        For people who have just published something: bursts of them are not to be expected.
        """
        self.poke()
        self._urgent.set(self._asked.value)
        wanted, watch = self._asked.value, self._answered.watch()
        with trio.move_on_after(self._pace.answer_seconds):
            while self._answered.value < wanted:
                await watch.changed()
        if self._outcome is None or self._answered.value < wanted:
            raise RolloutsStalled(f"no step was finished within {self._pace.answer_seconds:g} s")
        return self._outcome

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take steps until cancelled; ready after the first. Raises RolloutsStalled or StoreUnavailable."""
        is_ready = False
        while True:
            covered, began = self._asked.value, trio.current_time()
            outcome = await self._worker.run(self._take_step)
            took = trio.current_time() - began
            self._publish(outcome)
            self._answered.set(covered)
            if not is_ready:
                task_status.started()
                is_ready = True
            await first_of(partial(_exceeds, self._asked, covered), seconds=self._pause_seconds(outcome))
            # With thousands of releases a step takes a while: reports are to get their turns in between.
            rest = max(self._pace.settle_seconds, REST * took)
            await first_of(partial(_exceeds, self._urgent, covered), seconds=rest)

    def _publish(self, outcome: StepOutcome) -> None:
        self._outcome = outcome
        self._changes.announce(outcome.timestamp_version)
        self._metrics.show_rollouts(newest_of_each(outcome.rollouts))
        self._metrics.show_devices(outcome.devices)

    def _pause_seconds(self, outcome: StepOutcome) -> float:
        soak_left = math.inf if outcome.due is None else outcome.due - self._clock.now().timestamp()
        return max(0.0, min(self._pace.recheck_seconds, soak_left))


async def _exceeds(count: Latest[int], covered: int) -> None:
    watch = count.watch()
    while count.value <= covered:
        await watch.changed()
