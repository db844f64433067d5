# SPDX-License-Identifier: Apache-2.0
"""How many range requests an ambassador keeps under way at once: one on a short way, else found out by trying.

One is too few where the round trip is long or packets are lost (a single TCP connection then stays far below the
link); many are no use on a link that is full, and cost the origin a connection each. So one more is tried now and
then, and kept when it brought more. On a short way one connection fills any link; a second would only take from the
other ambassadors', and each piece that is half-way helps nobody yet.
"""

from dataclasses import dataclass, replace

FIRST_REQUESTS = 2  # while one answer begins, the other fills the link
SHORT_TRIP = 0.005  # seconds; CUBIC with a loss in 200 packets still brings 5 MB/s over it
SLOW_RATE = 32_768  # bytes/s: on so narrow a link one request at a time ends, before whoever serves it loses patience
MOST_REQUESTS = 8
LOOK_SECONDS = 1.0  # of full use, before a rate is believed
WORTH_KEEPING = 1.1  # times the rate before: less may be chance
HOLD_SECONDS = 8.0  # before one more is tried again


def is_short(round_trip: float | None) -> bool:
    """Whether one connection fills the link on a way of that length."""
    return round_trip is not None and round_trip <= SHORT_TRIP


@dataclass(frozen=True, kw_only=True)
class RequestWindow:
    """`limit` requests may be under way. Moments are seconds on one monotonic clock, rates bytes per second."""

    limit: int = FIRST_REQUESTS
    rate: float = 0.0  # with `limit` requests, or with one fewer while one more is on trial
    is_trial: bool = False
    hold_until: float = 0.0

    def after(self, rate: float, *, now: float, round_trip: float | None = None) -> "RequestWindow":
        """What to do having seen `rate` over LOOK_SECONDS in which all requests were under way.

        `round_trip`: to the origin, in seconds, without a queue of ours; None: not known.
        """
        if is_short(round_trip):
            return RequestWindow(limit=1, rate=rate)
        if rate < SLOW_RATE:
            return RequestWindow(limit=1, rate=rate, hold_until=now + HOLD_SECONDS)
        if self.is_trial:
            if rate >= self.rate * WORTH_KEEPING:
                return self._with_one_more(rate)
            return RequestWindow(limit=self.limit - 1, rate=self.rate, hold_until=now + HOLD_SECONDS)
        if now >= self.hold_until:
            return self._with_one_more(rate)
        return replace(self, rate=rate)

    def _with_one_more(self, rate: float) -> "RequestWindow":
        if self.limit >= MOST_REQUESTS:
            return RequestWindow(limit=MOST_REQUESTS, rate=rate)
        return RequestWindow(limit=self.limit + 1, rate=rate, is_trial=True)
