# SPDX-License-Identifier: Apache-2.0
"""One bottleneck link as a fluid: flows keep bytes in flight, the queue is what does not fit into the pipe.

Each step every flow delivers its share of the queue at the link's rate, and refills what its sender allows. Ours are
held by a window from `Yielding`; people's senders are modelled on what makes CUBIC and BBR hard to share with.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from p2pd.decisions.yielding import Pace, Sample, Yielding

SEGMENT = 1_448
STEP_SECONDS = 0.001
TICK_SECONDS = 0.05


class Flow(Protocol):
    """A sender and its receiver."""

    in_flight: float
    delivered: float

    def send(self, now: float, *, round_trip: float, rate: float, has_overflowed: bool) -> float:
        """Bytes sent in this step; `rate` is what it was delivered at."""


@dataclass
class Link:
    """`rate` in bytes per second, `base` and `queue` in seconds."""

    rate: float
    base: float
    queue: float = 0.05
    flows: list[Flow] = field(default_factory=list)
    now: float = 0.0
    round_trip: float = 0.0

    def run(self, seconds: float) -> None:
        """Let time pass."""
        until = self.now + seconds
        while self.now < until:
            self._step()

    def _step(self) -> None:
        in_flight = sum(flow.in_flight for flow in self.flows)
        pipe = self.rate * self.base
        self.round_trip = max(self.base, in_flight / self.rate)
        has_overflowed = in_flight > self.rate * (self.base + self.queue)
        total = self.rate if in_flight > pipe else in_flight / self.base
        for flow in self.flows:
            rate = total * flow.in_flight / in_flight if in_flight else 0.0
            delivered = min(rate * STEP_SECONDS, flow.in_flight)
            flow.delivered += delivered
            flow.in_flight -= delivered
            flow.in_flight += flow.send(self.now, round_trip=self.round_trip, rate=rate, has_overflowed=has_overflowed)
        self.now += STEP_SECONDS


@dataclass
class Cubic:
    """RFC 9438: fills the queue until it overflows, then goes back by three tenths. From `begins` to `ends`."""

    begins: float = 0.0
    ends: float = math.inf
    in_flight: float = 0.0
    delivered: float = 0.0
    _window: float = 10 * SEGMENT
    _threshold: float = math.inf
    _highest: float = 0.0
    _cut_at: float = -math.inf

    def send(self, now: float, *, round_trip: float, rate: float, has_overflowed: bool) -> float:
        """Up to its window."""
        if not self.begins <= now < self.ends:
            return 0.0
        if has_overflowed and now - self._cut_at > round_trip:
            self._highest, self._threshold, self._cut_at = self._window, 0.7 * self._window, now
            self._window *= 0.7
        elif self._window < self._threshold:
            self._window += rate * STEP_SECONDS
        else:
            since = now - self._cut_at
            slowest = math.cbrt(0.3 * self._highest / SEGMENT / 0.4)
            cubic = (0.4 * (since - slowest) ** 3) * SEGMENT + self._highest
            friendly = 0.7 * self._highest + 3 * 0.3 / 1.7 * since / round_trip * SEGMENT
            self._window = max(self._window, cubic, friendly)
        return max(0.0, self._window - self.in_flight)


@dataclass
class Bbr:
    """BBR version 1: at the greatest rate of ten round trips, with at most twice the pipe (and a burst) in flight."""

    begins: float = 0.0
    ends: float = math.inf
    in_flight: float = 0.0
    delivered: float = 0.0
    _rates: deque[tuple[float, float]] = field(default_factory=deque)
    _trips: deque[tuple[float, float]] = field(default_factory=deque)
    _best: float = 0.0
    _best_at: float = 0.0
    _is_starting: bool = True

    def send(self, now: float, *, round_trip: float, rate: float, has_overflowed: bool) -> float:
        """At its pace, within its cap."""
        if not self.begins <= now < self.ends:
            return 0.0
        _keep(self._rates, now, rate, 10 * round_trip, greatest=True)
        _keep(self._trips, now, round_trip, 10.0, greatest=False)
        fastest, least = max(self._rates[0][1], 10 * SEGMENT / round_trip), self._trips[0][1]
        if fastest > 1.25 * self._best:
            self._best, self._best_at = fastest, now
        elif now - self._best_at > 3 * round_trip:
            self._is_starting = False
        phase = int(now / least) % 8
        gain = 2.89 if self._is_starting else 1.25 if phase == 0 else 0.75 if phase == 1 else 1.0
        cap = (2.89 if self._is_starting else 2.0) * fastest * least + 12 * SEGMENT
        return max(0.0, min(gain * fastest * STEP_SECONDS, cap - self.in_flight))


def _keep(kept: deque[tuple[float, float]], now: float, value: float, seconds: float, *, greatest: bool) -> None:
    """A window's greatest or least value, at its front."""
    while kept and (kept[-1][1] <= value if greatest else kept[-1][1] >= value):
        kept.pop()
    kept.append((now, value))
    while kept[0][0] < now - seconds:
        kept.popleft()


@dataclass
class Patch:
    """An ambassador's connections, as one flow that obeys its controller. The kernel tells whole round trips."""

    link: Link
    connections: int = 4
    ambassadors: int = 1
    begins: float = 0.0
    knows_base: bool = True  # from connections that it had before
    unix: Callable[[float], float] = lambda now: 1_000_000.0 + now
    in_flight: float = 0.0
    delivered: float = 0.0
    paces: list[Pace] = field(default_factory=list)
    _yielding: Yielding | None = None
    _pace: Pace | None = None
    _looked_at: float = -math.inf
    _told: float = 0.0
    _tokens: float = 0.0

    @property
    def yielding(self) -> Yielding:
        """Its controller, once it has begun."""
        if self._yielding is None:
            raise ValueError("the patch has not begun")
        return self._yielding

    def send(self, now: float, *, round_trip: float, rate: float, has_overflowed: bool) -> float:
        """What the window lets through, and the rate."""
        if now < self.begins:
            return 0.0
        if now - self._looked_at >= TICK_SECONDS:
            self._look(now, round_trip)
        if self._pace is None or self._pace.rate == 0:
            return 0.0
        free = max(0.0, self._pace.window - self.in_flight)
        if self._pace.rate is not None:
            self._tokens = min(self._tokens + self._pace.rate * STEP_SECONDS, 2 * SEGMENT)
            free = min(free, self._tokens)
            self._tokens -= free
        return free

    def _look(self, now: float, round_trip: float) -> None:
        if self._yielding is None:
            base = self.link.base if self.knows_base else round_trip
            self._yielding = Yielding(base=base, unix=self.unix(now))
        received, self._told = self.delivered - self._told, self.delivered
        sample = Sample(
            now=now,
            unix=self.unix(now),
            round_trip=round_trip if received > 0 else None,
            received=int(received),
            connections=self.connections,
        )
        self._pace = self._yielding.observe(sample, ambassadors=self.ambassadors)
        self.paces.append(self._pace)
        self._looked_at = now


def delivered_between(link: Link, flows: Sequence[Flow], seconds: float) -> list[float]:
    """The bytes per second that each of `flows` gets in the next `seconds`."""
    before = [flow.delivered for flow in flows]
    link.run(seconds)
    return [(flow.delivered - had) / seconds for flow, had in zip(flows, before, strict=True)]
