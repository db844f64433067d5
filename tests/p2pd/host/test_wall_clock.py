# SPDX-License-Identifier: Apache-2.0
"""Tests of p2pd.host.wall_clock, and of the fake that stands for it."""

import time
from datetime import UTC, timedelta

import trio
from trio.testing import MockClock

from p2pd.host.wall_clock import WallClock
from tests.fakes.frozen_clock import START, FrozenWallClock


def test_it_tells_the_time_in_utc() -> None:
    before = time.time()
    now = WallClock().now()
    assert now.tzinfo is UTC
    assert before <= now.timestamp() <= time.time()


def test_it_is_never_earlier_than_the_floor() -> None:
    clock = WallClock(lambda: 1_000.9)
    assert clock.unix() == 1_000
    clock.raise_floor(2_000)
    assert clock.unix() == 2_000
    assert clock.now().timestamp() == 2_000
    clock.raise_floor(1_500)
    assert clock.unix() == 2_000


def test_a_clock_ahead_of_the_floor_is_believed() -> None:
    clock = WallClock(lambda: 3_000.0)
    clock.raise_floor(2_000)
    assert clock.unix() == 3_000


async def test_the_frozen_clock_follows_the_mock_clock(frozen_clock: MockClock, wall_clock: FrozenWallClock) -> None:
    assert wall_clock.now() == START
    frozen_clock.jump(90)
    assert wall_clock.now() == START + timedelta(seconds=90)
    wall_clock.raise_floor(int(START.timestamp()) + 100)
    assert wall_clock.unix() == int(START.timestamp()) + 100


async def test_the_frozen_clock_may_be_asked_from_a_thread(
    frozen_clock: MockClock, wall_clock: FrozenWallClock
) -> None:
    frozen_clock.jump(5)
    assert await trio.to_thread.run_sync(wall_clock.now) == START + timedelta(seconds=5)
