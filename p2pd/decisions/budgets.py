# SPDX-License-Identifier: Apache-2.0
"""How many bytes per second the calendar grants now, and until when. Pure: time and the links' rates are arguments."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from signing.budgets import DAY_MINUTES, DAYS, Budgets, Hours, Rates


@dataclass(frozen=True, kw_only=True)
class Grant:
    """Bytes per second; None: no limit. Ask again at `until`; None: time alone changes nothing."""

    wan: float | None
    lan: float | None
    until: datetime | None


def grant(budgets: Iterable[Budgets], *, now: datetime, wan_link: float, lan_link: float) -> Grant:
    """What all of `budgets` allow together, the strictest of each; `now` is the endpoint's own time of day.

    Links are in bytes per second, 0 if not measured: then percentages of them do not limit anything yet.
    """
    all_budgets = tuple(budgets)
    rates = [_rates(each, now) for each in all_budgets]
    changes = [when for each in all_budgets for hours in each.hours for when in _changes(hours, now)]
    return Grant(
        wan=_strictest((rate.wan_bytes_per_second, rate.wan_percent) for rate in rates)(wan_link),
        lan=_strictest((rate.lan_bytes_per_second, rate.lan_percent) for rate in rates)(lan_link),
        until=min(changes, default=None),
    )


def sharers(fetching: Iterable[Collection[str]]) -> int:
    """Among how many a site's WAN budget is divided: all who may fetch anything from the origin now, each once.

    `fetching` has, for each payload, those who may as this endpoint sees it, itself among them if it does. All who see
    the same divide alike, and together take no more than there is, however many payloads there are.
    """
    return max(1, len(frozenset(device for devices in fetching for device in devices)))


def stricter_of(first: float | None, second: float | None) -> float | None:
    """The lower of two limits, where None is no limit."""
    return min((limit for limit in (first, second) if limit is not None), default=None)


@dataclass(frozen=True)
class _Limits:
    absolute: float | None
    percent: float | None

    def __call__(self, link: float) -> float | None:
        of_link = link * self.percent / 100 if self.percent is not None and link > 0 else None
        return stricter_of(self.absolute, of_link)


def _strictest(limits: Iterable[tuple[int, float]]) -> _Limits:
    pairs = list(limits)
    return _Limits(
        min((float(absolute) for absolute, _ in pairs if absolute), default=None),
        min((percent for _, percent in pairs if percent), default=None),
    )


def _rates(budgets: Budgets, now: datetime) -> Rates:
    return next((hours.rates for hours in budgets.hours if _covers(hours, now)), budgets.rates)


def _covers(hours: Hours, now: datetime) -> bool:
    minute = now.hour * 60 + now.minute
    today, yesterday = now.weekday(), (now.weekday() - 1) % 7
    if _begins_on(hours, today) and hours.begins_minute <= minute < hours.ends_minute:
        return True
    return _begins_on(hours, yesterday) and minute + DAY_MINUTES < hours.ends_minute


def _begins_on(hours: Hours, weekday: int) -> bool:
    return not hours.days or DAYS[weekday] in hours.days


def _changes(hours: Hours, now: datetime) -> Iterator[datetime]:
    """When these hours begin or end within the next eight days, at least once if they ever do."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    for day in range(-1, 8):
        start = midnight + timedelta(days=day)
        if _begins_on(hours, start.weekday()):
            for minute in (hours.begins_minute, hours.ends_minute):
                when = start + timedelta(minutes=minute)
                if when > now:
                    yield when
