# SPDX-License-Identifier: Apache-2.0
"""The pacer: budgets hold to the byte over time, are divided among ambassadors, and nothing runs when nothing loads."""

import pytest
import trio
from trio.testing import MockClock

from p2pd.ports import WindowFacts
from p2pd.services.wan_pacing import NO_WINDOW_LIMIT, REST_SECONDS, Pacer

CHUNK = 16_384
LINK = 1e6  # bytes per second that the fake sender has


class FakeWindow:
    """A connection whose kernel tells what `received` says."""

    def __init__(self, *, is_known: bool = True, is_loopback: bool = False) -> None:
        self.is_known = is_known
        self.is_loopback = is_loopback
        self.round_trip = 0.01
        self.received = 0
        self.window: int | None = None
        self.size: int | None = None

    def look(self) -> WindowFacts | None:
        """See `p2pd.ports.ReceiveWindow`."""
        if not self.is_known:
            return None
        return WindowFacts(least=0.01, round_trip=self.round_trip, received=self.received, is_loopback=self.is_loopback)

    def limit(self, window: int) -> None:
        """See `p2pd.ports.ReceiveWindow`."""
        self.window = window

    def squeeze(self, size: int) -> None:
        """See `p2pd.ports.ReceiveWindow`."""
        self.size = size

    def release(self) -> None:
        """See `p2pd.ports.ReceiveWindow`."""
        self.size = None


async def download(pacer: Pacer, window: FakeWindow, seconds: float) -> int:
    """Read as fast as LINK and the pacer allow; the bytes in `seconds`."""
    before = window.received
    with trio.move_on_after(seconds), pacer.paced(window) as passed:
        while True:
            await trio.sleep(CHUNK / LINK)
            window.received += CHUNK
            await passed(CHUNK)
    return window.received - before


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("ambassadors", [1, 4])
async def test_a_budget_is_kept_by_the_whole_site(is_known: bool, ambassadors: int, autojump_clock: MockClock) -> None:
    pacer = Pacer(unix=lambda: 1e6 + trio.current_time())
    pacer.allow(100_000, yields=False)
    pacer.share_with(lambda: ambassadors)
    async with trio.open_nursery() as nursery:
        await nursery.start(pacer.run)
        await download(pacer, FakeWindow(is_known=is_known), 2)
        received = await download(pacer, FakeWindow(is_known=is_known), 60)
        nursery.cancel_scope.cancel()
    assert received <= 1.05 * 100_000 / ambassadors * 60 + LINK * 0.3
    assert received >= 0.9 * 100_000 / ambassadors * 60


async def test_downloads_share_one_budget(autojump_clock: MockClock) -> None:
    pacer, windows = Pacer(unix=lambda: 1e6 + trio.current_time()), [FakeWindow() for _ in range(3)]
    pacer.allow(100_000, yields=False)
    async with trio.open_nursery() as nursery:
        await nursery.start(pacer.run)
        async with trio.open_nursery() as downloads:
            for window in windows:
                downloads.start_soon(download, pacer, window, 60)
        nursery.cancel_scope.cancel()
    assert sum(window.received for window in windows) <= 1.05 * 100_000 * 60 + LINK
    assert all(window.size is None for window in windows)  # released at the end


async def test_without_budget_and_yielding_nothing_is_held_back(autojump_clock: MockClock) -> None:
    pacer, window = Pacer(unix=lambda: 1e6 + trio.current_time()), FakeWindow()
    pacer.allow(None, yields=False)
    async with trio.open_nursery() as nursery:
        await nursery.start(pacer.run)
        received = await download(pacer, window, 20)
        nursery.cancel_scope.cancel()
    assert received >= 0.98 * LINK * 20
    assert window.window == NO_WINDOW_LIMIT
    assert pacer.link == pytest.approx(LINK, rel=0.1)


@pytest.mark.parametrize("is_loopback", [True, False])
async def test_delays_within_the_host_are_nobody_on_the_link(is_loopback: bool, autojump_clock: MockClock) -> None:
    pacer, window = Pacer(unix=lambda: 1e6 + trio.current_time()), FakeWindow(is_loopback=is_loopback)
    async with trio.open_nursery() as nursery:
        await nursery.start(pacer.run)
        await download(pacer, window, 1)
        window.round_trip = 0.2
        received = await download(pacer, window, 20)
        nursery.cancel_scope.cancel()
    assert (received >= 0.98 * LINK * 20) is is_loopback


async def test_it_sleeps_while_nothing_is_downloaded(autojump_clock: MockClock) -> None:
    pacer = Pacer(unix=lambda: 1e6 + trio.current_time())
    async with trio.open_nursery() as nursery:
        await nursery.start(pacer.run)
        await download(pacer, FakeWindow(), 1)
        was_moving = pacer.moving.value
        await trio.sleep(2 * REST_SECONDS)
        assert (was_moving, pacer.moving.value) == (True, False)
        assert pacer.stance is None
        statistics = trio.lowlevel.current_statistics()
        assert statistics.seconds_to_next_deadline > 1e6  # nothing is due, ever
        nursery.cancel_scope.cancel()


async def test_another_network_is_another_link(autojump_clock: MockClock) -> None:
    pacer = Pacer(unix=lambda: 1e6 + trio.current_time())
    async with trio.open_nursery() as nursery:
        await nursery.start(pacer.run)
        await download(pacer, FakeWindow(), 10)
        assert pacer.link > 0
        pacer.forget_link()
        assert pacer.link == 0
        await download(pacer, FakeWindow(), 10)
        assert pacer.link > 0
        nursery.cancel_scope.cancel()


async def test_the_link_is_what_came_and_not_what_came_times_the_ambassadors(autojump_clock: MockClock) -> None:
    """Nobody knows how many of them fetched: ten times too much would be 200 % of the link at a budget of 20 %."""
    pacer = Pacer(unix=lambda: 1e6 + trio.current_time())
    pacer.share_with(lambda: 10)
    pacer.allow(None, yields=False)
    async with trio.open_nursery() as nursery:
        await nursery.start(pacer.run)
        await download(pacer, FakeWindow(), 10.0)
        assert pacer.link == pytest.approx(LINK, rel=0.1)
        nursery.cancel_scope.cancel()
