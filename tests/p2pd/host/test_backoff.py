# SPDX-License-Identifier: Apache-2.0
"""Tests of p2pd.host.backoff."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pd.host.backoff import jittered, restart_delay


def test_delays_double_up_to_the_cap() -> None:
    assert [restart_delay(n) for n in range(9)] == [0, 1, 2, 4, 8, 16, 32, 60, 60]
    assert restart_delay(3, first_seconds=0.5, cap_seconds=1.5) == 1.5


def test_a_very_long_outage_does_not_overflow() -> None:
    assert restart_delay(10**9) == 60.0


@given(
    st.floats(0, 1e6),
    st.floats(0, 1),
    st.floats(0, 1, exclude_max=True),
)
def test_jitter_stays_within_its_fraction(seconds: float, fraction: float, draw: float) -> None:
    slack = 1e-9 * seconds
    assert (
        seconds * (1 - fraction) - slack <= jittered(seconds, fraction, draw=draw) <= seconds * (1 + fraction) + slack
    )


def test_jitter_reaches_both_ends() -> None:
    assert jittered(10, 0.2, draw=0.0) == pytest.approx(8)
    assert jittered(10, 0.2, draw=0.5) == pytest.approx(10)
    assert jittered(10, 0.2, draw=0.999999) == pytest.approx(12, rel=1e-4)


@pytest.mark.parametrize("fraction", [-0.1, 1.1])
def test_a_fraction_that_could_go_negative_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        jittered(10, fraction, draw=0.5)
