# SPDX-License-Identifier: Apache-2.0
"""A worker thread for calls that touch disk or database, one at a time."""

from collections.abc import Callable
from typing import TypeVar

import trio

T = TypeVar("T")


class Worker:
    """Calls wait for their turn in order; a call that has begun is finished even if its caller is cancelled."""

    def __init__(self) -> None:
        self._turn = trio.CapacityLimiter(1)

    async def run(self, call: Callable[[], T]) -> T:
        """Return what `call` returns, from a thread."""
        return await trio.to_thread.run_sync(call, limiter=self._turn)
