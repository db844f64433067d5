# SPDX-License-Identifier: Apache-2.0
"""From runs to figures: medians with their ranges. Pure.

A run that not every endpoint finished counts with the time at which it was ended, and is marked: its figures are the
least that they can be.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from bench.outcome import Outcome

GB = 1_000_000_000
# On the wire a full TCP segment of 1,448 bytes (RFC 7323 timestamps) takes a frame of 1,514, as links here count them.
PAYLOAD_SHARE = 1_448 / 1_514


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A median and its range over runs."""

    median: float
    least: float
    most: float

    @staticmethod
    def of(values: Iterable[float]) -> "Spread":
        """Of at least one value. Raises ValueError."""
        sorted_values = sorted(values)
        if not sorted_values:
            raise ValueError("a spread needs a value")
        return Spread(median=median(sorted_values), least=sorted_values[0], most=sorted_values[-1])


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One contender in one scene over all of its runs."""

    scene: str
    contender: str
    runs: int
    unfinished_runs: int  # not every endpoint had it when the run was ended
    payload_bytes: int
    endpoints: int
    limit_seconds: float
    seconds: Spread  # until the last endpoint had finished
    ratio: Spread  # that, ÷ the physical limit
    copies: Spread  # payload bytes out of the origin, or into the site that took most ÷ payload
    wire_copies: Spread  # bytes on that link ÷ payload, headers and encryption included
    cpu_seconds_per_gb: Spread  # of an endpoint, per GB that it received
    origin_cpu_seconds: Spread
    peak_rss_bytes: Spread  # of the endpoint that took most
    idle_cpu_share: Spread
    p50: Spread  # of the endpoints' finishing times, in seconds
    p99: Spread
    p99_to_p50: Spread

    def to_plain(self) -> dict[str, Any]:
        """One object of `latest.json`: medians under their names, ranges beside them as `…_min` and `…_max`."""
        plain: dict[str, Any] = {}
        for name, value in asdict(self).items():
            if isinstance(value, dict):
                plain |= {name: value["median"], f"{name}_min": value["least"], f"{name}_max": value["most"]}
            else:
                plain[name] = value
        return plain


def summaries(outcomes: Iterable[Outcome]) -> list[Summary]:
    """One for each scene and contender, in the order of their first runs."""
    groups: dict[tuple[str, str, int], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.scene, outcome.contender, len(outcome.endpoints)), []).append(outcome)
    return [_summary(runs) for runs in groups.values()]


def _summary(runs: Sequence[Outcome]) -> Summary:
    first = runs[0]
    return Summary(
        scene=first.scene,
        contender=first.contender,
        runs=len(runs),
        unfinished_runs=sum(not is_finished(run) for run in runs),
        payload_bytes=first.payload_bytes,
        endpoints=len(first.endpoints),
        limit_seconds=first.limit_seconds,
        seconds=Spread.of(map(last_finish, runs)),
        ratio=Spread.of(last_finish(run) / run.limit_seconds for run in runs),
        copies=Spread.of(map(payload_copies, runs)),
        wire_copies=Spread.of(wire_bytes(run) / run.payload_bytes for run in runs),
        cpu_seconds_per_gb=Spread.of(map(cpu_seconds_per_gb, runs)),
        origin_cpu_seconds=Spread.of(run.origin.cpu_seconds for run in runs),
        peak_rss_bytes=Spread.of(max(cost.peak_rss_bytes for cost in run.endpoints.values()) for run in runs),
        idle_cpu_share=Spread.of(run.idle_cpu_share for run in runs),
        p50=Spread.of(percentile(finish_times(run), 0.50) for run in runs),
        p99=Spread.of(percentile(finish_times(run), 0.99) for run in runs),
        p99_to_p50=Spread.of(percentile(finish_times(run), 0.99) / percentile(finish_times(run), 0.50) for run in runs),
    )


def is_finished(run: Outcome) -> bool:
    """Whether every endpoint that lived had the payload before the run was ended."""
    return all(seconds is not None for seconds in run.finished.values())


def finish_times(run: Outcome) -> list[float]:
    """Of all endpoints that lived, in order; the cap for those that had not finished by then."""
    return sorted(run.cap_seconds if seconds is None else seconds for seconds in run.finished.values())


def last_finish(run: Outcome) -> float:
    """When the last endpoint had finished."""
    return finish_times(run)[-1]


def percentile(values: Sequence[float], share: float) -> float:
    """The least of the sorted `values` that at least `share` of them do not exceed (nearest rank)."""
    return values[max(0, math.ceil(share * len(values)) - 1)]


def wire_bytes(run: Outcome) -> int:
    """Bytes on the link that payloads should pass once: into the site that took most, or else out of the origin."""
    return run.busiest_wan_bytes if run.busiest_wan_bytes is not None else run.link_bytes["origin"][0]


def payload_copies(run: Outcome) -> float:
    """How often the payload passed that link: as the origin counted, or from the link's own counter less headers.

    The estimate holds for transfers in full segments; encryption and protocols are in it.
    """
    if run.busiest_wan_bytes is None and run.origin_payload_bytes is not None:
        return run.origin_payload_bytes / run.payload_bytes
    return wire_bytes(run) * PAYLOAD_SHARE / run.payload_bytes


def cpu_seconds_per_gb(run: Outcome) -> float:
    """User and system time of an endpoint on average, per 1,000,000,000 bytes of payload that it received."""
    costs = [cost.cpu_seconds for name, cost in run.endpoints.items() if name not in run.killed]
    return sum(costs) / len(costs) * GB / run.payload_bytes


def one_line(summary: Summary) -> str:
    """For a terminal."""
    ratio, unfinished = summary.ratio, summary.unfinished_runs
    note = f" ({unfinished} of {summary.runs} runs did not finish)" if unfinished else ""
    return (
        f"{summary.scene} {summary.contender}: {ratio.median:.2f} × limit [{ratio.least:.2f}–{ratio.most:.2f}], "
        f"{summary.seconds.median:.1f} s, {summary.copies.median:.3f} copies, "
        f"{summary.cpu_seconds_per_gb.median:.1f} CPU s/GB, {summary.peak_rss_bytes.median / 1e6:.0f} MB{note}"
    )
