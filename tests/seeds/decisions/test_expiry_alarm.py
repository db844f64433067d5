# SPDX-License-Identifier: Apache-2.0
"""The alarm goes off at half, a quarter and a tenth of life, and when it is over."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from seeds.decisions.expiry_alarm import ALARM_PERCENTS, alarm_percent

BORN = datetime(2026, 3, 1, tzinfo=UTC)
LIFE = timedelta(days=100)


def alarm(age_days: float) -> int | None:
    return alarm_percent(BORN + LIFE, LIFE, BORN + timedelta(days=age_days))


def test_the_marks_are_passed_one_after_the_other() -> None:
    ages = (0, 49.9, 50, 74.9, 75, 89.9, 90, 99.9, 100, 1_000)
    assert [alarm(age) for age in ages] == [None, None, 50, 50, 25, 25, 10, 10, 0, 0]


@given(st.floats(0, 200), st.floats(0, 200))
def test_it_never_calms_down_by_growing_old(first: float, second: float) -> None:
    younger, older = (alarm(age) for age in sorted((first, second)))
    assert (older if older is not None else 101) <= (younger if younger is not None else 101)
    assert older is None or older in ALARM_PERCENTS
