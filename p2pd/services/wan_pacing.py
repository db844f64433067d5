# SPDX-License-Identifier: Apache-2.0
"""Holds the downloads from the origin to what people on the link leave, and to the budget.

All range requests of the agent share one pacer. While any is under way it looks at the kernel's measurements every
TICK_SECONDS, asks `decisions.yielding` how fast to go, and sets the connections' windows; when none is, it sleeps.
"""

import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import trio

from p2pd.decisions.yielding import Pace, Sample, Stance, Yielding
from p2pd.host.latest import Latest
from p2pd.host.telemetry import log
from p2pd.ports import ReceiveWindow

TICK_SECONDS = 0.05
LATE_SECONDS = (
    0.02  # a look that comes so late, for want of a processor, finds bytes that waited for us, not for people
)
REST_SECONDS = 1.0  # without any download, after which the next begins like the first
SUSTAINED_SECONDS = 2.0  # a rate that lasted so long is one of the link's
LEAST_BUFFER = 4_096  # bytes unread on a connection that is throttled; one TCP segment fits twice
NO_WINDOW_LIMIT = 2**30
LEAST_WAIT_SECONDS = 0.001
_UNKNOWN_BASE = 0.05  # seconds; only until the first connection is looked at

_log = log("wan_pacing")


@dataclass(eq=False)
class _Download:
    window: ReceiveWindow
    received: int | None = None  # by the kernel's count, at the last look


class Pacer:
    """Implements `p2pd.ports.Pacing`."""

    def __init__(self, *, unix: Callable[[], float]) -> None:
        self._unix = unix
        self._downloads: list[_Download] = []
        self._arrived, self._changed = trio.Event(), trio.Event()
        self._yielding: Yielding | None = None
        self._idle_since = -math.inf
        self._yields = True
        self._budget: float | None = None
        self._sharers: Callable[[], int] = lambda: 1
        self.moving = Latest(False)  # whether anything was downloaded a moment ago
        self._rate: float | None = None
        self._drained_at: float | None = None  # when what was in flight before throttling has come
        self._tokens, self._filled_at = 0.0, 0.0
        self._sustained, self._sustained_since = 0, 0.0
        self._is_late = False  # the look of this moment
        self.link = 0.0  # bytes per second: the most that this endpoint was seen to receive

    @property
    def stance(self) -> Stance | None:
        """How downloads stand to people's traffic; None while nobody needs to know."""
        return self._yielding.stance if self._yielding is not None and self._downloads and self._yields else None

    def allow(self, budget: float | None, *, yields: bool) -> None:
        """Keep to `budget` bytes per second for the site (None: no limit) and, if `yields`, out of people's way."""
        self._budget, self._yields = budget, yields

    def share_with(self, sharers: Callable[[], int]) -> None:
        """Take from `sharers` how many endpoints of the site, this one among them, download over the same link."""
        self._sharers = sharers

    @property
    def _ambassadors(self) -> int:
        return max(1, self._sharers())

    @property
    def round_trip(self) -> float | None:
        """Seconds to the origin and back without a queue of ours; None: not known yet."""
        return self._yielding.base if self._yielding is not None else None

    def learn(self, window: ReceiveWindow) -> None:
        """Take the handshake of a connection to the origin for a round trip without a queue of ours.

        Connections for metadata tell it long before the first download: one that begins while somebody else's fills
        the queue would take that queue for a part of the way.
        """
        facts = window.look()
        if facts is not None and facts.least is not None and not facts.is_loopback:
            self._learn_base(facts.least)

    def forget_link(self) -> None:
        """The network is another one now."""
        self.link, self._yielding = 0.0, None

    @contextmanager
    def paced(self, window: ReceiveWindow) -> Iterator[Callable[[int], Awaitable[None]]]:
        """See `p2pd.ports.Pacing`."""
        download = _Download(window)
        now = trio.current_time()
        if not self._downloads and now - self._idle_since > REST_SECONDS and self._yielding is not None:
            self._yielding.begin_anew()
        self._downloads.append(download)
        self._arrived.set()
        try:
            yield self._pass
        finally:
            self._downloads.remove(download)
            window.release()
            if not self._downloads:
                self._idle_since = trio.current_time()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Steer for ever."""
        task_status.started()
        while True:
            if not self._downloads:
                self._arrived = trio.Event()
                with trio.move_on_after(REST_SECONDS) as resting:
                    await self._arrived.wait()
                if resting.cancelled_caught:
                    self.moving.set(False)
                    await self._arrived.wait()
                self.moving.set(True)
                self._sustained, self._sustained_since = 0, trio.current_time()
            self._steer()
            due = trio.current_time() + TICK_SECONDS
            await trio.sleep_until(due)
            self._is_late = trio.current_time() > due + LATE_SECONDS

    def _steer(self) -> None:
        now = trio.current_time()
        round_trip, received, is_known = self._look()
        self._note_link(now, received)
        pace: Pace | None = None
        if self._yields and is_known and self._yielding is not None:
            sample = Sample(
                now=now,
                unix=self._unix(),
                round_trip=round_trip,
                received=received,
                connections=max(1, len(self._downloads)),
                is_late=self._is_late,
            )
            pace = self._observe(self._yielding, sample)
        budget = self._budget / self._ambassadors if self._budget is not None else None
        rates = [rate for rate in (budget, pace.rate if pace is not None else None) if rate is not None]
        self._throttle(min(rates, default=None), now, round_trip or 0.05)
        self._set_windows(pace.window if pace is not None else None, round_trip or 0.05)

    def _observe(self, yielding: Yielding, sample: Sample) -> Pace:
        before = yielding.stance
        pace = yielding.observe(sample, ambassadors=self._ambassadors)
        if yielding.stance is not before:
            _log.info(
                yielding.stance.value,
                base_seconds=round(yielding.base, 4),
                round_trip=sample.round_trip,
                best_bytes_per_second=int(yielding.best),
                connections=sample.connections,
                ambassadors=self._ambassadors,
            )
        return pace

    def _look(self) -> tuple[float | None, int, bool]:
        """The least round trip of what came, bytes since the last look, and whether anything is known of a link.

        On loopback there is none: delays are those of a busy processor, and slowing down would help nobody.
        """
        trips: list[float] = []
        total, is_known = 0, False
        for download in self._downloads:
            facts = download.window.look()
            if facts is None:
                continue
            is_on_link = not facts.is_loopback
            is_known = is_known or is_on_link
            if download.received is not None and facts.received > download.received:
                total += facts.received - download.received
                if facts.round_trip is not None and is_on_link:
                    trips.append(facts.round_trip)
            elif download.received is None and is_on_link:
                self._learn_base(facts.least or facts.round_trip or _UNKNOWN_BASE)
            download.received = facts.received
        return min(trips, default=None), total, is_known

    def _learn_base(self, seconds: float) -> None:
        if self._yielding is None:
            self._yielding = Yielding(base=seconds, unix=self._unix())
        else:
            self._yielding.learn_base(seconds, unix=self._unix())

    def _note_link(self, now: float, received: int) -> None:
        self._sustained += received
        seconds = now - self._sustained_since
        if seconds >= SUSTAINED_SECONDS:
            self.link = max(self.link, self._sustained / seconds)
            self._sustained, self._sustained_since = 0, now

    def _throttle(self, rate: float | None, now: float, round_trip: float) -> None:
        if rate:
            if self._drained_at is None:
                self._drained_at = now + max(0.1, 2 * round_trip)
        else:
            self._drained_at = None
        if rate != self._rate:
            self._fill(now)
            self._rate = rate
            self._changed.set()
            self._changed = trio.Event()

    def _set_windows(self, window: int | None, round_trip: float) -> None:
        share = NO_WINDOW_LIMIT if window is None else window // max(1, len(self._downloads))
        for download in self._downloads:
            download.window.limit(share)
            if self._is_throttled and self._rate:
                in_flight = self._rate * (round_trip + 2 * TICK_SECONDS) / len(self._downloads)
                download.window.squeeze(max(LEAST_BUFFER, int(in_flight) // LEAST_BUFFER * LEAST_BUFFER))
            elif self._rate is None:
                download.window.release()

    @property
    def _is_throttled(self) -> bool:
        return self._drained_at is not None and trio.current_time() >= self._drained_at

    def _fill(self, now: float) -> None:
        rate = self._rate or 0.0
        self._tokens = min(self._tokens + rate * (now - self._filled_at), rate * 2 * TICK_SECONDS)
        self._filled_at = now

    async def _pass(self, size: int) -> None:
        """Whoever has read `size` bytes waits here until the next may be read."""
        if self._rate is None:
            return
        if self._is_throttled:
            self._fill(trio.current_time())
            self._tokens -= size
        while self._rate is not None:
            now = trio.current_time()
            if self._rate == 0:
                wait = math.inf
            elif not self._is_throttled:
                return
            else:
                self._fill(now)
                if self._tokens >= 0:
                    return
                wait = max(-self._tokens / self._rate, LEAST_WAIT_SECONDS)
            with trio.move_on_after(wait):
                await self._changed.wait()
