# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.latency`: from publishing a small patch until the last endpoint has verified it.

A real coordinator and real agents with their installers on the loopback network, all of which see each other before
the clock starts. It starts twice: when `p2pctl patch publish` is called (a process that starts, decrypts keys and
signs) and when it returns. Each endpoint's own log says when it entered each state.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import trio

from bench.loopback_fleet import LoopbackFleet, Published, loopback_fleet

RESULTS = Path(__file__).parent / "results"
REST_SECONDS = 15.0  # after a release, until reports and schedules that follow it have settled
STATES = ("fetching", "staged", "verified")


async def measure(endpoints: int, size: int, runs: int) -> list[dict[str, Any]]:
    """One object per run; times in seconds since `p2pctl patch publish` was called."""
    with tempfile.TemporaryDirectory(prefix="p2pd-latency-") as scratch:
        directory = Path(scratch)
        stage = directory / "fleet"
        stage.mkdir()
        async with loopback_fleet(stage, agents=endpoints) as fleet:
            await fleet.acquainted()
            results = []
            for number in range(runs + 1):
                await trio.sleep(REST_SECONDS)
                run = await _release(fleet, f"1.{number}", directory, size)
                if number:  # the first one warms up: nothing has been imported or compiled by the installers
                    results.append(run)
            return results


async def _release(fleet: LoopbackFleet, version: str, directory: Path, size: int) -> dict[str, Any]:
    source = directory / version
    source.mkdir()
    (source / "data").write_bytes(os.urandom(size))
    agents, coordinator = range(len(fleet.homes)), fleet.coordinator_pid()
    pids = [coordinator, *map(fleet.daemon_pid, agents)]
    before = [cpu_seconds(pid) for pid in pids]
    published = await fleet.release(version, source)
    await fleet.reach(version, "verified")
    spent = [cpu_seconds(pid) - earlier for pid, earlier in zip(pids, before, strict=True)]
    entered = await fleet.reach(version, "committed")
    return breakdown(published, entered) | {
        "cpu_seconds_coordinator": round(spent[0], 3),
        "cpu_seconds_per_endpoint": round(statistics.mean(spent[1:]), 3),
    }


def cpu_seconds(pid: int) -> float:
    """Of all threads of a process so far, also those that have ended. Linux only."""
    return time.clock_gettime(~pid << 3 | 2)  # clock_getcpuclockid(3), which Python offers for threads alone


def breakdown(published: Published, entered: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """For each state, when the first, the median and the last endpoint entered it."""
    shown: dict[str, Any] = {
        "endpoints": len(entered),
        "transport_bytes": published.transport_bytes,
        "published": round(published.done - published.began, 3),
    }
    for state in STATES:
        moments = sorted(agent[state] - published.began for agent in entered)
        chosen = {"first": moments[0], "median": statistics.median(moments), "last": moments[-1]}
        shown[state] = {name: round(moment, 3) for name, moment in chosen.items()}
    shown["seconds"] = shown["verified"]["last"]
    shown["seconds_since_published"] = round(shown["seconds"] - shown["published"], 3)
    return shown


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """For people: a row for each run, and the medians."""
    lines = [
        "| run | publish returned | fetching | staged | verified (first to last) | since it returned | CPU s each |",
        "|---|---|---|---|---|---|---|",
    ]
    for number, run in enumerate(results, 1):
        spans = [f"{run[state]['first']:.2f} to {run[state]['last']:.2f}" for state in STATES]
        since = run["seconds_since_published"]
        cpu = run["cpu_seconds_per_endpoint"]
        lines.append(f"| {number} | {run['published']:.2f} | {' | '.join(spans)} | {since:.2f} | {cpu:.2f} |")
    whole = statistics.median(run["seconds"] for run in results)
    since = statistics.median(run["seconds_since_published"] for run in results)
    lines.append(f"\nmedian: {whole:.2f} s since `p2pctl patch publish` was called, {since:.2f} s since it returned")
    return "\n".join(lines)


def main() -> None:
    """Run, print, and write `bench/results/latency.json`."""
    parser = argparse.ArgumentParser(prog="python -m bench.latency", description=__doc__)
    parser.add_argument("--endpoints", type=int, default=20)
    parser.add_argument("--size", type=int, default=1_000_000, help="bytes of the patch, which do not compress")
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    results = trio.run(partial(measure, asked.endpoints, asked.size, asked.runs))
    print(table(results))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "latency.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
