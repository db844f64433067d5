# SPDX-License-Identifier: Apache-2.0
"""When to raise the alarm about signed metadata that runs out. Pure."""

from datetime import datetime, timedelta

ALARM_PERCENTS = (50, 25, 10, 0)


def alarm_percent(expires: datetime, lifetime: timedelta, now: datetime) -> int | None:
    """The last alarm mark that the metadata's remaining life has passed, 0 once it has expired; None: all is well."""
    left = (expires - now) / lifetime * 100
    passed = [percent for percent in ALARM_PERCENTS if left <= percent]
    return min(passed, default=None)
