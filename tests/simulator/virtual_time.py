# SPDX-License-Identifier: Apache-2.0
"""Runs a test on a clock that never waits, without threads, and without chance.

The clock is `MockClock(autojump_threshold=0)`: as soon as every task waits, it jumps to the next deadline. A busy thread
looks idle to it, so threads are forbidden here, and blocking calls are made in place. Chance is what trio draws lots
with and what spreads load; with the same seed, the same test takes the same course, but for keys, which are new in
each session: who is whose ambassador follows from them, and no test may depend on it.
"""

import os
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NoReturn, TypeVar

import pytest
import trio
from trio.abc import Clock, Instrument
from trio.lowlevel import Task
from trio.testing import MockClock

T = TypeVar("T")

SEED = 1
MAX_STEPS_AT_ONCE = 20_000  # the busiest moment of these tests takes 800


async def in_place(sync_fn: Callable[..., T], *args: Any) -> T:
    """Implements `p2pd.ports_control.RunSync`. Like a thread, it either is cancelled before it begins, or finishes."""
    await trio.lowlevel.checkpoint()
    return sync_fn(*args)


def on_virtual_time(main: Callable[[], Awaitable[T]], *, clock: Clock | None, instruments: Sequence[Instrument]) -> T:
    """`trio.run` for pytest-trio's mark: `pytest.mark.trio(run=on_virtual_time)`."""
    guard = _SpinGuard()

    async def guarded() -> T:
        with guard.scope:
            return await main()
        raise AssertionError(f"{MAX_STEPS_AT_ONCE} steps, and no time has passed: something goes round in circles")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trio.to_thread, "run_sync", _refuse_thread)
        # A kill here is a cancelled task: what was written is there, synced or not, and syncing takes half of the time.
        patch.setattr(os, "fsync", lambda _: None)
        patch.setattr(trio._core._run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
        trio._core._run._r.seed(SEED)
        random.seed(SEED)
        return trio.run(guarded, clock=clock or MockClock(autojump_threshold=0), instruments=[*instruments, guard])


class _SpinGuard(Instrument):
    """Ends a test whose tasks are never all waiting, which would hang it: this clock stands still meanwhile."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self._time = 0.0
        self._steps = 0

    def after_task_step(self, task: Task) -> None:
        """Called by trio."""
        now = trio.current_time()
        self._steps = self._steps + 1 if now == self._time else 0
        self._time = now
        if self._steps > MAX_STEPS_AT_ONCE:
            self.scope.cancel()


async def _refuse_thread(*_: object, **__: object) -> NoReturn:
    raise AssertionError("a thread looks idle to this clock: inject `in_place` instead")
