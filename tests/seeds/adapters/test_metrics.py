# SPDX-License-Identifier: Apache-2.0
"""Metrics are in base units, carry bounded labels, and forget what is gone."""

from dataclasses import replace

from prometheus_client import generate_latest

from seeds.adapters.metrics import MAX_PRODUCTS, CoordinatorMetrics
from seeds.records import Rollout, RolloutState
from tests.seeds.fleet_kit import Endpoint

NOW = 1_000.0
ROLLOUT = Rollout(
    manifest_sha256="0" * 64,
    product="tzdata",
    version="1",
    release_counter=1,
    segments=("office",),
    state=RolloutState.RUNNING,
    open_rings=1,
)


def value(metrics: CoordinatorMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_expiry_counts_down_between_looks() -> None:
    now = [NOW]
    metrics = CoordinatorMetrics(lambda: now[0])
    metrics.show_expiries({"timestamp": NOW + 60})
    assert value(metrics, "seeds_metadata_expiry_seconds", role="timestamp") == 60
    now[0] += 90
    assert value(metrics, "seeds_metadata_expiry_seconds", role="timestamp") == -30


def test_a_rollout_is_in_one_state() -> None:
    metrics = CoordinatorMetrics(lambda: NOW)
    metrics.show_rollouts({"tzdata": ROLLOUT})
    metrics.show_rollouts({"tzdata": replace(ROLLOUT, state=RolloutState.HALTED)})
    shown = {state: value(metrics, "seeds_rollout_state", product="tzdata", state=state) for state in RolloutState}
    assert shown == {state: float(state is RolloutState.HALTED) for state in RolloutState}
    assert value(metrics, "seeds_rollout_open_rings", product="tzdata") == 1


def test_no_number_of_products_makes_more_series() -> None:
    metrics = CoordinatorMetrics(lambda: NOW)
    metrics.show_rollouts({f"p{number}": ROLLOUT for number in range(MAX_PRODUCTS + 50)})
    assert generate_latest(metrics.registry).decode().count("seeds_rollout_open_rings{") == MAX_PRODUCTS


def test_devices_are_counted_by_segment() -> None:
    metrics = CoordinatorMetrics(lambda: NOW)
    metrics.show_devices([Endpoint("a").as_record(segment="lab"), Endpoint("b").as_record(segment="lab")])
    assert value(metrics, "seeds_devices", segment="lab") == 2
    metrics.show_devices([])
    assert value(metrics, "seeds_devices", segment="lab") is None


def test_the_process_is_shown_too_and_two_coordinators_do_not_clash() -> None:
    first, second = CoordinatorMetrics(lambda: NOW), CoordinatorMetrics(lambda: NOW)
    first.requests.labels(route="changes", status="200").inc()
    assert value(second, "seeds_requests_total", route="changes", status="200") is None
    assert b"python_info" in generate_latest(first.registry)
