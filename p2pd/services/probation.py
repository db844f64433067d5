# SPDX-License-Identifier: Apache-2.0
"""Watches a freshly installed release until its health plan says that it is healthy, or that it is not."""

from dataclasses import dataclass
from pathlib import Path

import trio

from p2pd.decisions.health_verdict import CheckHistory, Verdict, failing_check, judge
from p2pd.ports_control import HealthProbe
from signing.manifest import CommandCheck, HealthPlan, HttpCheck, TcpCheck

LEAST_PAUSE_SECONDS = 0.01  # what remains can be a rounding error, too short to move any clock


@dataclass(frozen=True, kw_only=True)
class Proof:
    """How probation ended; `detail` names the check that failed and what it saw."""

    healthy: bool
    detail: str = ""


async def prove(plan: HealthPlan, probe: HealthProbe, *, slot: Path) -> Proof:
    """Run every check of `plan` again and again until the verdict falls. Checks of one round run side by side."""
    began = trio.current_time()
    histories = [CheckHistory() for _ in plan.checks]

    async def run(index: int, check: CommandCheck | HttpCheck | TcpCheck) -> None:
        result = await probe.run(check, slot=slot)
        histories[index] = histories[index].after(passed=result.passed, detail=result.detail)

    while True:
        async with trio.open_nursery() as nursery:
            for index, check in enumerate(plan.checks):
                nursery.start_soon(run, index, check)
        elapsed = trio.current_time() - began
        verdict = judge(plan, histories, elapsed=elapsed)
        if verdict is Verdict.HEALTHY:
            return Proof(healthy=True)
        if verdict is Verdict.UNHEALTHY:
            return Proof(healthy=False, detail=_describe(plan, histories))
        remaining = plan.probation_seconds - elapsed
        pause = min(plan.interval_seconds, remaining) if remaining > 0 else plan.interval_seconds
        await trio.sleep(max(pause, LEAST_PAUSE_SECONDS))


def _describe(plan: HealthPlan, histories: list[CheckHistory]) -> str:
    index = failing_check(plan, histories)
    if index is None:
        return ""
    return f"{plan.checks[index].kind} check {index + 1} of {len(plan.checks)}: {histories[index].last_detail}"
