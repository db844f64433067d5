# SPDX-License-Identifier: Apache-2.0
"""Calendar time in step with a mock clock: nothing moves unless a test says so."""

from datetime import UTC, datetime

from trio.testing import MockClock

from p2pd.host.wall_clock import WallClock

START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)  # a Monday morning, in no daylight-saving change


class FrozenWallClock(WallClock):
    """A WallClock that shows `start` plus what `clock` says; like the real one it may be asked from any thread."""

    def __init__(self, clock: MockClock, *, start: datetime = START) -> None:
        super().__init__(lambda: start.timestamp() + clock.current_time())
