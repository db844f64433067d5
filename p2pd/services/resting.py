# SPDX-License-Identifier: Apache-2.0
"""Gives memory back whenever the agent comes to rest: twice after the last thing that happened to a release.

Soon, since it may have been a large one; and once more when connections and reports that followed have settled, too.
"""

from collections.abc import Awaitable, Callable

import trio

from p2pd.host.latest import first_of
from p2pd.services.site import Board

QUIET_SECONDS = 10.0
SETTLED_SECONDS = 60.0


async def rest(
    board: Board,
    give_back: Callable[[], Awaitable[None]],
    *,
    received: Callable[[], int],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Call `give_back` after the start and after each time of activity; runs until cancelled.

    `received` counts payload bytes: while it grows there is no rest.
    """
    trusted, carried, why = board.trusted.watch(), board.carried.watch(), board.why.watch()
    task_status.started()

    async def news() -> None:
        await first_of(trusted.changed, carried.changed, why.changed)

    while True:
        for pause in (QUIET_SECONDS, SETTLED_SECONDS):
            before = received()
            if await first_of(news, seconds=pause) or received() != before:
                break  # from the beginning
            await give_back()
        else:
            await news()
