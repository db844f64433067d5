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
from trio.testing import MockClock

T = TypeVar("T")

SEED = 1


async def in_place(sync_fn: Callable[..., T], *args: Any) -> T:
    """Implements `p2pd.ports_control.RunSync`. Like a thread, it either is cancelled before it begins, or finishes."""
    await trio.lowlevel.checkpoint()
    return sync_fn(*args)


def on_virtual_time(main: Callable[[], Awaitable[T]], *, clock: Clock | None, instruments: Sequence[Instrument]) -> T:
    """`trio.run` for pytest-trio's mark: `pytest.mark.trio(run=on_virtual_time)`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trio.to_thread, "run_sync", _refuse_thread)
        # A kill here is a cancelled task: what was written is there, synced or not, and syncing takes half of the time.
        patch.setattr(os, "fsync", lambda _: None)
        patch.setattr(trio._core._run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
        trio._core._run._r.seed(SEED)
        random.seed(SEED)
        return trio.run(main, clock=clock or MockClock(autojump_threshold=0), instruments=instruments)


async def _refuse_thread(*_: object, **__: object) -> NoReturn:
    raise AssertionError("a thread looks idle to this clock: inject `in_place` instead")
