# SPDX-License-Identifier: Apache-2.0
"""How many requests are under way: as many as pay, between the bounds, on links of all kinds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pd.decisions.request_window import LOOK_SECONDS, MOST_REQUESTS, SLOW_RATE, RequestWindow


@given(st.lists(st.floats(min_value=0, max_value=1e9), max_size=60))
def test_the_number_stays_within_its_bounds(rates: list[float]) -> None:
    window = RequestWindow()
    for step, rate in enumerate(rates):
        window = window.after(rate, now=step * LOOK_SECONDS)
        assert 1 <= window.limit <= MOST_REQUESTS


@pytest.mark.parametrize(
    ("of_one", "of_all", "least", "most"),
    [(5e6, 1e9, MOST_REQUESTS, MOST_REQUESTS), (1e7, 1e7, 2, 3), (2e6, 1e7, 5, 6)],
)
def test_requests_are_added_while_they_bring_more(of_one: float, of_all: float, least: int, most: int) -> None:
    """Each connection brings `of_one` at most, as with losses on a long way; together they fill the link."""
    window = RequestWindow()
    for step in range(60):
        window = window.after(min(of_one * window.limit, of_all), now=step * LOOK_SECONDS)
    assert least <= window.limit <= most


def test_a_link_that_became_wider_is_found_out() -> None:
    window = RequestWindow()
    for step in range(100):
        link = 4e6 if step < 40 else 3e7
        window = window.after(min(2e6 * window.limit, link), now=step * LOOK_SECONDS)
    assert window.limit == MOST_REQUESTS


def test_a_narrow_link_gets_one_request_at_a_time_and_a_wider_one_more_again() -> None:
    window = RequestWindow()
    for step in range(20):
        window = window.after(SLOW_RATE / 2, now=step * LOOK_SECONDS)
        assert window.limit == 1
    for step in range(20, 60):
        window = window.after(min(2e6 * window.limit, 3e7), now=step * LOOK_SECONDS)
    assert window.limit == MOST_REQUESTS
