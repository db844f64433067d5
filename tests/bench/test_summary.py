# SPDX-License-Identifier: Apache-2.0
"""Figures of known runs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.outcome import Cost
from bench.summary import (
    PAYLOAD_SHARE,
    Spread,
    cpu_seconds_per_gb,
    finish_times,
    last_finish,
    one_line,
    payload_copies,
    percentile,
    summaries,
)
from tests.bench.outcomes import MB, outcome


def test_a_spread_is_the_median_between_the_extremes() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(median=2.0, least=1.0, most=3.0)
    assert Spread.of([4.0, 1.0]).median == 2.5
    with pytest.raises(ValueError, match="needs a value"):
        Spread.of([])


@given(st.lists(st.floats(min_value=0, max_value=1e6), min_size=1), st.floats(min_value=0.01, max_value=1))
def test_a_percentile_is_a_value_that_the_share_does_not_exceed(values: list[float], share: float) -> None:
    values.sort()
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values)
    assert sum(value < found for value in values) < share * len(values)


def test_of_forty_endpoints_p99_is_the_last_and_p50_the_twentieth() -> None:
    times = [float(number) for number in range(1, 41)]
    assert (percentile(times, 0.99), percentile(times, 0.5)) == (40.0, 20.0)


def test_who_has_not_finished_counts_with_the_time_at_which_the_run_was_ended() -> None:
    run = outcome({"one": 12.0, "two": None})
    assert finish_times(run) == [12.0, 120.0]
    assert last_finish(run) == 120.0
    (summary,) = summaries([run, outcome({"one": 11.0, "two": 12.0})])
    assert summary.unfinished_runs == 1
    assert "1 of 2 runs did not finish" in one_line(summary)


def test_medians_and_ranges_over_runs() -> None:
    runs = [outcome({"one": 1.0, "two": last}) for last in (11.5, 20.0, 12.0)]
    (summary,) = summaries(runs)
    assert (summary.runs, summary.unfinished_runs, summary.endpoints) == (3, 0, 2)
    assert summary.ratio == Spread(median=1.2, least=1.15, most=2.0)
    assert summary.p99_to_p50.median == 12.0
    plain = summary.to_plain()
    assert (plain["ratio"], plain["ratio_min"], plain["ratio_max"]) == (1.2, 1.15, 2.0)
    assert (plain["scene"], plain["contender"], plain["copies"]) == ("flat-10", "p2pd", 1.01)
    assert not any(isinstance(value, dict) for value in plain.values())


def test_copies_are_what_the_origin_counted_or_what_the_link_carried_less_headers() -> None:
    counted = outcome({"one": 11.0})
    assert payload_copies(counted) == pytest.approx(1.01)
    uncounted = outcome({"one": 11.0}, origin_payload_bytes=None)
    assert payload_copies(uncounted) == pytest.approx(1.06 * PAYLOAD_SHARE)
    behind_a_wan = outcome({"one": 11.0}, origin_payload_bytes=300 * MB, busiest_wan_bytes=105 * MB)
    assert payload_copies(behind_a_wan) == pytest.approx(1.05 * PAYLOAD_SHARE), "three sites took three copies"


def test_cpu_is_of_the_endpoints_that_lived() -> None:
    costs = {"one": Cost(cpu_seconds=2.0, peak_rss_bytes=1), "dead": Cost(cpu_seconds=90.0, peak_rss_bytes=1)}
    assert cpu_seconds_per_gb(outcome({"one": 11.0}, endpoints=costs, killed=("dead",))) == pytest.approx(20.0)


def test_contenders_and_scenes_are_kept_apart() -> None:
    runs = [outcome({"one": 11.0}), outcome({"one": 30.0}, contender="aria2"), outcome({"one": 12.0}, scene="flat-40")]
    assert [(summary.scene, summary.contender) for summary in summaries(runs)] == [
        ("flat-10", "p2pd"),
        ("flat-10", "aria2"),
        ("flat-40", "p2pd"),
    ]
