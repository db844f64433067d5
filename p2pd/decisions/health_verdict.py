# SPDX-License-Identifier: Apache-2.0
"""Whether a release on probation has proved itself. Pure: histories and time are arguments."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from signing.manifest import HealthPlan


class Verdict(StrEnum):
    """What probation says now."""

    WATCHING = "watching"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, kw_only=True)
class CheckHistory:
    """All that the verdict needs of one check's runs, whatever their number."""

    passes: int = 0
    failures_in_a_row: int = 0
    last_detail: str = ""

    def after(self, *, passed: bool, detail: str) -> "CheckHistory":
        """The history one run later."""
        if passed:
            return CheckHistory(passes=self.passes + 1, last_detail=detail)
        return CheckHistory(passes=self.passes, failures_in_a_row=self.failures_in_a_row + 1, last_detail=detail)


def judge(plan: HealthPlan, histories: Sequence[CheckHistory], *, elapsed: float) -> Verdict:
    """The verdict `elapsed` seconds into probation; `histories` has one entry per check of `plan`.

    Unhealthy as soon as one check fails more often in a row than is forgiven. Healthy only when time is up and the last
    run of every check passed. A plan without checks proves itself by time alone.
    """
    if failing_check(plan, histories) is not None:
        return Verdict.UNHEALTHY
    if elapsed < plan.probation_seconds:
        return Verdict.WATCHING
    if all(history.passes > 0 and history.failures_in_a_row == 0 for history in histories):
        return Verdict.HEALTHY
    return Verdict.WATCHING


def failing_check(plan: HealthPlan, histories: Sequence[CheckHistory]) -> int | None:
    """Index of the first check that failed too often in a row, or None."""
    for index, history in enumerate(histories):
        if history.failures_in_a_row > plan.failures_allowed:
            return index
    return None
