# SPDX-License-Identifier: Apache-2.0
"""A site's rates follow its endpoints' measurements: robustly, and without a new signature for every report."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seeds.decisions.site_rates import LEAST_WEIGHT, MOST_WEIGHT, NEWEST, STANDS_WITHIN, site_rates, weights
from seeds.records import Measurement
from signing.report import Measured
from signing.schedule import SiteRates

FAST = Measured(wan_bytes_per_s=6e6, intake_bytes_per_s=6e6, lan_in_bytes_per_s=2e7, lan_out_bytes_per_s=1e7)
values = st.none() | st.floats(0, 2**40)
measurements = st.lists(
    st.builds(
        Measurement,
        device=st.from_regex(r"[a-z]{1,3}", fullmatch=True),
        time=st.integers(0, 10**9),
        measured=st.builds(
            Measured,
            wan_bytes_per_s=values,
            intake_bytes_per_s=values,
            lan_in_bytes_per_s=values,
            lan_out_bytes_per_s=values,
            origin_round_trip=st.none() | st.floats(0, 600),
        ),
    ),
    max_size=40,
    unique_by=lambda each: each.device,
)


def said(measured: Measured, count: int = 1, *, time: int = 0, prefix: str = "pc") -> list[Measurement]:
    return [Measurement(device=f"{prefix}-{number}", time=time, measured=measured) for number in range(count)]


def rates(measurements: list[Measurement], published: SiteRates | None = None) -> SiteRates:
    found = site_rates(measurements, published)
    assert found is not None
    return found


def test_what_was_measured_is_said_in_round_figures() -> None:
    found = rates(said(replace(FAST, origin_round_trip=0.02)))
    assert found.wan_bytes_per_s == pytest.approx(6e6, rel=0.2)
    assert found.lan_bytes_per_s == pytest.approx(2e7, rel=0.2)
    assert found.rtt_seconds == pytest.approx(0.02, rel=0.2)


@pytest.mark.parametrize("partial", [replace(FAST, wan_bytes_per_s=None), Measured(wan_bytes_per_s=6e6), Measured()])
def test_half_a_measurement_says_nothing_of_the_site(partial: Measured) -> None:
    assert site_rates(said(partial), None) is None
    assert site_rates([], None) is None


def test_what_stands_stays_without_measurements() -> None:
    standing = rates(said(FAST))
    assert site_rates([], standing) == standing


@pytest.mark.parametrize("lie", [0.0, 1.0, 2.0**40])
def test_a_quarter_of_the_endpoints_may_lie(lie: float) -> None:
    lies = said(Measured(wan_bytes_per_s=lie, lan_in_bytes_per_s=lie), 5, prefix="liar")
    assert rates([*said(FAST, 15), *lies]) == rates(said(FAST, 15))


def test_old_measurements_give_way_to_new_ones() -> None:
    slow = replace(FAST, wan_bytes_per_s=1e6)
    newest = said(slow, NEWEST, time=2, prefix="new")
    assert rates([*said(FAST, NEWEST, time=1), *newest]) == rates(newest)


@given(measurements)
def test_what_is_published_once_stays_as_long_as_nobody_says_anything_else(found: list[Measurement]) -> None:
    first = site_rates(found, None)
    assert site_rates(found, first) == first
    assert site_rates(list(reversed(found)), None) == first  # whatever the order in which they are read


@given(st.floats(1e3, 1e9), st.floats(0.95, 1.05))
def test_jitter_is_no_news(rate: float, jitter: float) -> None:
    standing = rates(said(replace(FAST, wan_bytes_per_s=rate)))
    assert rates(said(replace(FAST, wan_bytes_per_s=rate * jitter)), standing) == standing


def test_another_line_is() -> None:
    standing = rates(said(FAST))
    assert rates(said(replace(FAST, wan_bytes_per_s=6e6 * 2)), standing) != standing


def test_a_member_that_does_not_keep_up_weighs_less() -> None:
    slow = said(replace(FAST, intake_bytes_per_s=1.4e6), prefix="slow")
    found = weights(["pc-0", "slow-0", "new-0"], [*said(FAST), *slow], {})
    assert found == {"pc-0": 1.0, "slow-0": 0.25, "new-0": 1.0}


@given(measurements, st.dictionaries(st.from_regex(r"[a-z]{1,3}", fullmatch=True), st.sampled_from([0.25, 0.5, 1.0])))
def test_weights_are_bounded_and_settle_at_once(found: list[Measurement], published: dict[str, float]) -> None:
    members = [each.device for each in found]
    once = weights(members, found, published)
    assert sorted(once) == sorted(members)
    assert all(LEAST_WEIGHT <= weight <= MOST_WEIGHT for weight in once.values())
    assert weights(members, found, once) == once


@given(st.floats(0.01, 100), st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0]))
def test_a_weight_stays_within_reach_of_what_is_measured(ratio: float, published: float) -> None:
    seen = said(replace(FAST, intake_bytes_per_s=6e6 * ratio))
    weight = weights(["pc-0"], seen, {"pc-0": published})["pc-0"]
    bounded = min(max(ratio, LEAST_WEIGHT), MOST_WEIGHT)
    assert weight / (STANDS_WITHIN + 1e-9) <= bounded <= weight * (STANDS_WITHIN + 1e-9)
