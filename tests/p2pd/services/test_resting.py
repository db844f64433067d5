# SPDX-License-Identifier: Apache-2.0
"""Memory is given back twice after each time of activity, and never by the clock alone."""

from functools import partial
from itertools import count, pairwise

import trio
from trio.testing import MockClock

from p2pd.services.resting import QUIET_SECONDS, SETTLED_SECONDS, rest
from p2pd.services.site import Board, Why


async def test_it_rests_after_the_start_and_after_what_happened(autojump_clock: MockClock) -> None:
    board, rested = Board(), list[float]()

    async def give_back() -> None:
        rested.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        began = trio.current_time()
        await nursery.start(partial(rest, received=lambda: 0), board, give_back)
        await trio.sleep(10 * SETTLED_SECONDS)
        assert rested == [began + QUIET_SECONDS, began + QUIET_SECONDS + SETTLED_SECONDS]

        rested.clear()
        for step in range(5):  # more keeps happening before it gets quiet
            board.carried.set(frozenset({str(step)}))
            await trio.sleep(QUIET_SECONDS / 2)
        board.why.set({"a": Why(product="app", version="1", state="committed")})
        last = trio.current_time()
        await trio.sleep(10 * SETTLED_SECONDS)
        assert rested == [last + QUIET_SECONDS, last + QUIET_SECONDS + SETTLED_SECONDS]
        nursery.cancel_scope.cancel()


async def test_news_while_it_rests_are_not_missed(autojump_clock: MockClock) -> None:
    board, rested = Board(), list[float]()

    async def give_back() -> None:
        rested.append(trio.current_time())
        if len(rested) == 1:
            board.carried.set(frozenset({"news"}))
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        await nursery.start(partial(rest, received=lambda: 0), board, give_back)
        await trio.sleep(10 * SETTLED_SECONDS)
        assert [later - earlier for earlier, later in pairwise(rested)] == [1 + QUIET_SECONDS, SETTLED_SECONDS]
        nursery.cancel_scope.cancel()


async def test_there_is_no_rest_while_a_payload_comes(autojump_clock: MockClock) -> None:
    board, rested = Board(), list[float]()
    come = count()
    ends = trio.current_time() + 10 * SETTLED_SECONDS

    def received() -> int:
        return next(come) if trio.current_time() < ends else -1

    async def give_back() -> None:
        rested.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        await nursery.start(partial(rest, received=received), board, give_back)
        await trio.sleep_until(ends + 10 * SETTLED_SECONDS)
        nursery.cancel_scope.cancel()
    assert len(rested) == 2
    assert ends < rested[0] <= ends + 2 * QUIET_SECONDS
