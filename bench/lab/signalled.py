# SPDX-License-Identifier: Apache-2.0
"""Running trio in a lab, so that Ctrl-C and SIGTERM unwind it like any other cancellation."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import trio

from p2pd.host.shutdown import run_until_signalled

DRAIN_SECONDS = 60.0  # for a hundred processes to be killed and reaped

T = TypeVar("T")


def run_unless_signalled(main: Callable[[], Awaitable[T]]) -> T:
    """What `main` returns. A signal cancels it, and SystemExit is raised once everything of it has ended."""
    returned: list[T] = []

    async def keep() -> None:
        returned.append(await main())

    number = trio.run(partial(run_until_signalled, keep, drain_seconds=DRAIN_SECONDS))
    if number is not None:
        raise SystemExit(128 + number)
    return returned[0]
