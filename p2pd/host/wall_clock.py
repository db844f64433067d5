# SPDX-License-Identifier: Apache-2.0
"""The one place where the calendar is read, with a floor under it that signed metadata raises."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime


class WallClock:
    """UTC now, and never earlier than the floor. May be asked from any thread.

    The floor is the newest signed timestamp that was accepted: a clock set back (dead battery, hostile NTP) cannot
    bring expired metadata to life again. Durations are not its business: services use `trio.current_time()`.
    """

    def __init__(self, read_unix: Callable[[], float] = time.time) -> None:
        self._read_unix = read_unix
        self._floor = 0
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """The current time, aware, in UTC."""
        return datetime.fromtimestamp(max(self._read_unix(), self._floor), UTC)

    def unix(self) -> int:
        """The current time in whole Unix seconds, rounded down."""
        return int(max(self._read_unix(), self._floor))

    def raise_floor(self, unix: int) -> None:
        """Never again tell a time before `unix`. An earlier floor than the present one changes nothing."""
        with self._lock:
            self._floor = max(self._floor, unix)
