# SPDX-License-Identifier: Apache-2.0
"""How fast this endpoint may download so that people on the same link keep theirs. Pure: time is an argument.

We are the receiver and cannot choose the sender's congestion control, so the receive window is what we steer
(rLEDBAT, RFC 9840), by the queueing delay that our own segments meet: the round trip less the shortest one seen.

Alone, the window holds a short queue at the bottleneck (TARGET), so the link is never idle. A target delay is not
enough to yield: a sender with BBR near its server keeps 3 ms of queue and would starve behind our 8, and a flow that
starts behind somebody's full queue takes that for the base. So each second has a *breath*: the window is reduced by so
much that a queue of our own would shrink and the link stay full. Then our rate stays the same; with a person on the
link it falls with our window, because what we leave is taken. Breaths begin at the same moments of UTC everywhere:
all ambassadors of a site breathe together, and together look like one flow. Clocks that disagree cost ambassadors, not
people: one that breathes alone takes the others for people and yields to them.

Whoever finds a person holds on to FLOOR_SHARE of the link, to go on measuring, and tries again when the queue is empty,
or after a time that doubles; all ambassadors try again at the same moments too.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from statistics import median

TARGET = 0.008  # seconds of queue that we keep when alone: a sixth of what a home router holds
TARGET_PER_BASE = 0.5  # … and on long paths enough for a breath of a quarter
LONGEST_TARGET = 0.03
SHORT_PATH, SHORT_PATH_TARGET = 0.01, 0.014  # where the least windows of all connections are a queue already
BREATH_QUEUE = 0.25  # of our queue is left in a breath: never empty, so that breathing costs nothing
SHORT_BREATHS = ((0.3, 0.5), (0.8, 1.0))  # of every second of UTC
LONG_BREATHS = ((0.7, 1.0),)  # where the round trip, with our queue, would leave too little of a short one
SHORT_BASE = 0.05
LEAST_QUEUE = 0.0015  # less than this is no queue: twice what a kernel's receiver-side estimate jitters on a full link
FAINTEST_BREATH = 0.85  # a window that cannot go down so far proves nothing: rounding to segments takes some percent
KEPT = 0.25  # of what we left of the queue, at least, is taken by people; else the sender was slow for itself
SUSPICIOUS, PLAIN = 0.3, 0.85  # of what a person would take of our rate; a plain breath counts for two suspicious ones
TRIAL_PRESSED_SECONDS = 0.5
PRESSING, PRESSED_SECONDS = 1.25, 0.7  # a queue so many times longer than ours, for so long, is somebody else's
FLOOR_SHARE = 0.015  # of the best rate, for all ambassadors together
LEAST_RATE = 8_000.0  # bytes per second; servers drop connections that stand still
FIRST_HOLD, LONGEST_HOLD, BUSY_HOLD = 4, 8, 1  # seconds, in powers of two: all ambassadors try at the same moments
SEGMENT_WINDOW = 2_304  # bytes per connection: the least window that Linux will advertise
FIRST_WINDOW = 36_500  # bytes for all connections
DEEP_BEGINS, DEEP_SECONDS, DEEP_EVERY = 0.0, 0.2, 16  # seconds; a breath that empties the queue, to see the base
_MEMORY = 3.0  # seconds of samples
_BASE_MINUTES = 10  # RFC 6817 §4.2: routes change
_UNIX_MINUTE = 60.0


class Stance(StrEnum):
    """How the transfer stands to the others on the link."""

    FILLING = "filling"  # nobody else seems to want the link
    YIELDING = "yielding"  # somebody does


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What was measured since the sample before. `round_trip` in seconds, None when nothing came; `received` bytes.

    `is_late`: it was taken late, since the processor was busy, and so was whoever should have read what came.
    """

    now: float  # monotonic seconds
    unix: float
    round_trip: float | None
    received: int
    connections: int
    is_late: bool = False


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What all connections together may use: bytes in flight, and bytes per second if that alone is not slow enough."""

    window: int
    rate: float | None


@dataclass(frozen=True)
class _Breath:
    began: float
    window: float
    rate_before: float
    round_trip_before: float
    depth: float  # the window ÷ the one that held the queue before


@dataclass(frozen=True)
class _Past:
    now: float
    seconds: float
    received: int
    round_trip: float | None


class Yielding:
    """The controller of one endpoint; one `observe` every 20 to 50 ms while something is being downloaded."""

    def __init__(self, *, base: float, unix: float) -> None:
        self._bases: dict[int, float] = {int(unix // _UNIX_MINUTE): base}
        self._past: deque[_Past] = deque()
        self._stance = Stance.FILLING
        self._since: float | None = None
        self._round_trip = base
        self._starting = True
        self._is_least = False
        self._trial = False
        self._breath: _Breath | None = None
        self._in_breath = False
        self._deep_until = self._regain_until = self._deep_at = -1.0
        self._regain = 0.0
        self._suspicions = 0
        self._pressed = 0.0
        self._hold, self._until = FIRST_HOLD, 0.0
        self.best = 0.0  # bytes per second, the most that half a second had

    @property
    def stance(self) -> Stance:
        """How it stands now."""
        return self._stance

    @property
    def base(self) -> float:
        """The shortest round trip of the last ten minutes, in seconds."""
        return min(self._bases.values())

    def learn_base(self, seconds: float, *, unix: float) -> None:
        """A round trip without a queue of ours, such as that of a handshake."""
        minute = int(unix // _UNIX_MINUTE)
        self._bases[minute] = min(seconds, self._bases.get(minute, seconds))
        if len(self._bases) > _BASE_MINUTES:
            del self._bases[min(self._bases)]

    def begin_anew(self) -> None:
        """A download after a rest: nobody is known to want the link, and the window grows from its beginning."""
        self._past.clear()
        self._stance, self._since, self._round_trip = Stance.FILLING, None, self.base
        self._starting, self._trial = True, False
        self._breath, self._in_breath, self._suspicions, self._pressed = None, False, 0, 0.0
        self._deep_at = self._deep_until = self._regain_until = -1.0
        self._hold = FIRST_HOLD

    def observe(self, sample: Sample, *, ambassadors: int = 1) -> Pace:
        """Take one more measurement; how fast to go until the next."""
        if sample.is_late:  # the delay is ours: it neither shows a queue nor ends a breath with a verdict
            sample = replace(sample, round_trip=None)
            self._breath = None
        seconds = self._remember(sample)
        if self._stance is Stance.YIELDING:
            if not self._may_try(sample):
                return self._floor(sample, ambassadors)
            self._try_again(sample)
            return Pace(window=self._at_least(self.best / 2 * (self.base + LEAST_QUEUE), sample), rate=None)
        self._note_best(sample)
        if self._presses(sample, seconds) or self._breath_finds_someone(sample, ambassadors):
            self._yield(sample)
            return self._floor(sample, ambassadors)
        if self._breath is not None:
            return Pace(window=self._at_least(self._breath.window, sample), rate=None)
        if self._breathes_deeply(sample):
            return Pace(window=self._at_least(0, sample), rate=0.0)
        return Pace(window=self._filling_window(sample), rate=None)

    # What was measured.

    def _remember(self, sample: Sample) -> float:
        if self._since is None:
            self._since = sample.now
        seconds = sample.now - (self._past[-1].now if self._past else sample.now)
        if sample.round_trip is not None:
            self._round_trip = sample.round_trip
            self.learn_base(sample.round_trip, unix=sample.unix)
        self._past.append(_Past(sample.now, seconds, sample.received, sample.round_trip))
        while self._past[0].now < sample.now - _MEMORY:
            self._past.popleft()
        return seconds

    def _since_then(self, then: float) -> Iterator[_Past]:
        return (past for past in self._past if past.now - past.seconds >= then - 1e-6 and past.seconds > 0)

    def _rate(self, then: float) -> float:
        past = list(self._since_then(then)) or [past for past in self._past if past.seconds > 0][-1:]
        seconds = sum(one.seconds for one in past)
        return sum(one.received for one in past) / seconds if seconds else 0.0

    def _round_trips(self, then: float) -> list[float]:
        return [past.round_trip for past in self._since_then(then) if past.round_trip is not None]

    @property
    def _queue(self) -> float:
        return self._round_trip - self.base

    def _target(self, sample: Sample) -> float:
        """Seconds of queue to keep; on short paths so much that with many connections, too, a breath can go below."""
        target = min(max(TARGET, TARGET_PER_BASE * self.base), LONGEST_TARGET)
        if self.base < SHORT_PATH and self.best:
            target = max(target, min(2.5 * sample.connections * SEGMENT_WINDOW / self.best, SHORT_PATH_TARGET))
        return target

    def _note_best(self, sample: Sample) -> None:
        if self._since is not None and sample.now - self._since > 0.5:
            self.best = max(self.best, self._rate(sample.now - 0.5))

    # Filling.

    def _at_least(self, window: float, sample: Sample) -> int:
        return max(int(window), sample.connections * SEGMENT_WINDOW)

    def _filling_window(self, sample: Sample) -> int:
        """So much that what comes at the present rate makes the queue that we aim at, and no more."""
        target = self._target(sample)
        rate = self._rate(sample.now - max(0.06, 1.5 * self._round_trip))
        if self._starting and self._queue > target / 2:
            self._starting = False
        aim = self.base + target
        if self._starting:
            aim = max(aim, 2 * self._round_trip)
        elif self._queue < LEAST_QUEUE:
            # Not we but losses hold the sender back: what comes after a gap fills the window until the gap is closed.
            aim += self.base
        floor = FIRST_WINDOW if self._starting else 0
        if sample.now < self._regain_until:
            rate = max(rate, self._regain)
        window, least = int(rate * aim) + SEGMENT_WINDOW, sample.connections * SEGMENT_WINDOW
        self._is_least = window <= least
        return max(window, least, floor)

    def _breathes_deeply(self, sample: Sample) -> bool:
        """Whether the queue is being emptied now, by all ambassadors: whoever came late took it for the base."""
        if sample.now < self._deep_until:
            return True
        if self._deep_until > 0:
            self._deep_until = -1.0
            self._regain_until = sample.now + 1.5 * self._round_trip + 0.06
        second, phase = divmod(sample.unix, 1.0)
        is_due = DEEP_BEGINS <= phase < DEEP_BEGINS + 0.05 and (second % DEEP_EVERY == 0 or self._deep_at < 0)
        if not is_due or self._trial or sample.now - self._deep_at < 0.5 or self._queue < LEAST_QUEUE:
            return False
        self._deep_at, self._regain = sample.now, self._rate(sample.now - 0.15)
        self._deep_until = sample.now + min(DEEP_SECONDS, 1.5 * self._round_trip + 0.02)
        return True

    def _presses(self, sample: Sample, seconds: float) -> bool:
        """Whether the queue has long been longer than we make it, or there although we have the least of windows."""
        if sample.is_late:
            return False
        is_long = self._queue > PRESSING * self._target(sample) + LEAST_QUEUE
        if (is_long or (self._is_least and self._queue > LEAST_QUEUE)) and not self._starting:
            self._pressed += seconds
        else:
            self._pressed = max(0.0, self._pressed - seconds)
        return self._pressed >= (TRIAL_PRESSED_SECONDS if self._trial else PRESSED_SECONDS)

    def _breath_finds_someone(self, sample: Sample, ambassadors: int) -> bool:
        breaths = SHORT_BREATHS if self.base <= SHORT_BASE else LONG_BREATHS
        is_due = any(begins <= sample.unix % 1.0 < ends for begins, ends in breaths)
        if is_due and not self._in_breath:
            self._in_breath = True
            self._breath = self._begin_breath(sample)
        elif not is_due and self._in_breath:
            self._in_breath = False
            breath, self._breath = self._breath, None
            return breath is not None and self._judge(breath, ambassadors)
        return False

    def _begin_breath(self, sample: Sample) -> _Breath | None:
        then = sample.now - 0.15
        trips = self._round_trips(then)
        if self._since is None or sample.now - self._since < 0.2 or not trips:
            return None
        queue, rate = sum(trips) / len(trips) - self.base, self._rate(then)
        if queue < LEAST_QUEUE:
            return None
        before = rate * (self.base + queue)
        window = max(rate * (self.base + BREATH_QUEUE * queue), sample.connections * SEGMENT_WINDOW)
        if window > FAINTEST_BREATH * before:
            return None
        return _Breath(sample.now, window, rate, self.base + queue, window / before)

    def _judge(self, breath: _Breath, ambassadors: int) -> bool:
        """Whether the rate fell with the window, because others kept the queue that we had left."""
        then = breath.began + max(0.06, 1.2 * breath.round_trip_before)
        fell = (1 - self._rate(then) / breath.rate_before) / (1 - breath.depth)
        trips = self._round_trips(then)
        after = sum(trips) / len(trips) if trips else 0.0
        alone = breath.window / breath.rate_before
        is_kept = after - alone > KEPT * (breath.round_trip_before - alone)
        self._suspicions = self._suspicions + (2 if fell > PLAIN else 1) if fell > SUSPICIOUS and is_kept else 0
        if not self._suspicions:
            self._trial, self._hold = False, FIRST_HOLD
        return self._suspicions >= 2

    # Yielding.

    def _yield(self, sample: Sample) -> None:
        self._stance = Stance.YIELDING
        self._breath, self._in_breath, self._suspicions, self._pressed = None, False, 0, 0.0
        if self._trial:
            self._hold = min(2 * self._hold, LONGEST_HOLD)
        self._since = sample.now
        self._until = sample.unix + 1
        self._until += -self._until % self._hold

    def _may_try(self, sample: Sample) -> bool:
        if sample.unix < self._until:
            return False
        trips = self._round_trips(sample.now - 1.0) or self._round_trips(sample.now - _MEMORY)[-1:]
        is_busy = bool(trips) and median(trips) - self.base > LEAST_QUEUE
        if is_busy and self._since is not None and sample.now - self._since < LONGEST_HOLD:
            self._until += BUSY_HOLD
            return False
        return True

    def _try_again(self, sample: Sample) -> None:
        self._stance, self._since = Stance.FILLING, sample.now
        self._starting = self._trial = True
        trips = self._round_trips(sample.now - 0.6)
        self._round_trip = min(trips, default=self.base)

    def _floor(self, sample: Sample, ambassadors: int) -> Pace:
        rate = max(FLOOR_SHARE * self.best / ambassadors, LEAST_RATE)
        return Pace(window=sample.connections * SEGMENT_WINDOW, rate=rate)
