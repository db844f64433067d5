# SPDX-License-Identifier: Apache-2.0
"""What the calendar grants: the strictest of policy and own limits, at the hours of the endpoint's own time."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pd.decisions.budgets import grant, sharers
from signing.budgets import DAYS, Budgets, Hours, Rates

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
OFFICE = Budgets(
    rates=Rates(wan_bytes_per_second=5_000_000),
    hours=(Hours(rates=Rates(wan_percent=20), days=DAYS[:5], begins="08:00", ends="18:00"),),
)
NIGHT = Budgets(hours=(Hours(rates=Rates(lan_bytes_per_second=9), days=("sun",), begins="22:00", ends="06:00"),))


def wan(now: datetime, link: float = 1e7) -> float | None:
    """What OFFICE grants."""
    return grant([OFFICE], now=now, wan_link=link, lan_link=0).wan


def test_business_hours_take_a_share_of_the_measured_link() -> None:
    assert wan(MONDAY + timedelta(hours=7, minutes=59)) == 5_000_000
    assert wan(MONDAY + timedelta(hours=8)) == 2_000_000
    assert wan(MONDAY + timedelta(hours=17, minutes=59)) == 2_000_000
    assert wan(MONDAY + timedelta(hours=18)) == 5_000_000
    assert wan(MONDAY + timedelta(days=5, hours=12)) == 5_000_000  # Saturday


def test_a_share_of_a_link_that_was_never_measured_limits_nothing_yet() -> None:
    assert wan(MONDAY + timedelta(hours=9), link=0) is None


def test_hours_may_pass_midnight() -> None:
    def lan(now: datetime) -> float | None:
        return grant([NIGHT], now=now, wan_link=0, lan_link=0).lan

    assert lan(MONDAY + timedelta(hours=5, minutes=59)) == 9  # since Sunday
    assert lan(MONDAY + timedelta(hours=6)) is None
    assert lan(MONDAY + timedelta(hours=23)) is None
    assert lan(MONDAY + timedelta(days=6, hours=22)) == 9


rates = st.builds(
    Rates,
    wan_bytes_per_second=st.integers(0, 10**9),
    wan_percent=st.floats(0, 100),
    lan_bytes_per_second=st.integers(0, 10**9),
    lan_percent=st.floats(0, 100),
)
times = st.integers(0, 23).flatmap(lambda hour: st.integers(0, 59).map(lambda minute: f"{hour:02}:{minute:02}"))
hours = st.tuples(rates, st.sets(st.sampled_from(DAYS)), times, times).filter(lambda made: made[2] != made[3])
budgets = st.builds(
    lambda usual, other: Budgets(
        rates=usual,
        hours=tuple(Hours(rates=r, days=tuple(days), begins=begins, ends=ends) for r, days, begins, ends in other),
    ),
    rates,
    st.lists(hours, max_size=3),
)
moments = st.integers(0, 365 * 86_400).map(lambda seconds: MONDAY + timedelta(seconds=seconds))


@given(budgets, budgets, moments, st.floats(0, 1e9), st.floats(0, 1e9))
def test_another_budget_never_grants_more(
    first: Budgets, second: Budgets, now: datetime, wan_link: float, lan_link: float
) -> None:
    alone = grant([first], now=now, wan_link=wan_link, lan_link=lan_link)
    both = grant([second, first], now=now, wan_link=wan_link, lan_link=lan_link)
    for before, after in ((alone.wan, both.wan), (alone.lan, both.lan)):
        assert before is None or (after is not None and after <= before)


@given(budgets, moments, st.floats(0, 1))
def test_nothing_changes_before_the_time_that_is_told(made: Budgets, now: datetime, part: float) -> None:
    told = grant([made], now=now, wan_link=1e6, lan_link=1e6)
    until = told.until or now + timedelta(days=30)
    assert until > now
    between = now + (until - now) * part
    later = grant([made], now=min(between, until - timedelta(microseconds=1)), wan_link=1e6, lan_link=1e6)
    assert (later.wan, later.lan) == (told.wan, told.lan)


@pytest.mark.parametrize(
    "wrong",
    [
        {"begins": "8:00"},
        {"ends": "24:01"},
        {"begins": "12:00", "ends": "12:00"},
        {"begins": "24:00"},
        {"days": ("monday",)},
        {"days": ("mon", "mon")},
    ],
)
def test_hours_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"begins|ends|days"):
        Hours(rates=Rates(), **wrong)  # type: ignore[arg-type]  # some are wrong on purpose


@given(st.lists(st.frozensets(st.sampled_from("abcdefghij")), max_size=6))
def test_all_who_may_fetch_anything_share_one_budget_and_take_no_more(fetching: list[frozenset[str]]) -> None:
    """Whatever the payloads: everybody sees who may fetch which, and takes one share of all."""
    everybody = frozenset().union(*fetching)
    taken = sum(1.0 / sharers(fetching) for _ in everybody)
    assert taken == pytest.approx(1.0 if everybody else 0.0)
    assert sharers(fetching) >= 1
