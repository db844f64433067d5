# SPDX-License-Identifier: Apache-2.0
"""When a release has proved itself: time alone is not enough, and one forgiven failure is not two."""

from hypothesis import given
from hypothesis import strategies as st

from p2pd.decisions.health_verdict import CheckHistory, Verdict, failing_check, judge
from signing.manifest import CommandCheck, HealthPlan

CHECK = CommandCheck(argv=("true",))
RUNS = st.lists(st.booleans(), max_size=30)


def history(runs: list[bool]) -> CheckHistory:
    result = CheckHistory()
    for passed in runs:
        result = result.after(passed=passed, detail="it passed" if passed else "it failed")
    return result


def plan(*, checks: int = 1, failures_allowed: int = 0) -> HealthPlan:
    return HealthPlan(checks=(CHECK,) * checks, probation_seconds=60, failures_allowed=failures_allowed)


def test_the_first_failure_ends_probation_when_none_is_forgiven() -> None:
    assert judge(plan(), [history([True, False])], elapsed=5.0) is Verdict.UNHEALTHY


def test_a_forgiven_failure_keeps_watching_until_the_check_passes_again() -> None:
    forgiving = plan(failures_allowed=1)
    assert judge(forgiving, [history([True, False])], elapsed=61.0) is Verdict.WATCHING
    assert judge(forgiving, [history([True, False, True])], elapsed=61.0) is Verdict.HEALTHY
    assert judge(forgiving, [history([True, False, False])], elapsed=5.0) is Verdict.UNHEALTHY


def test_time_alone_proves_a_release_without_checks_and_no_other() -> None:
    assert judge(plan(checks=0), [], elapsed=60.0) is Verdict.HEALTHY
    assert judge(plan(checks=1), [CheckHistory()], elapsed=1e9) is Verdict.WATCHING


def test_the_failing_check_is_named_with_what_it_saw() -> None:
    histories = [history([True]), history([False])]
    index = failing_check(plan(checks=2), histories)
    assert index == 1
    assert histories[index].last_detail == "it failed"


@given(st.lists(RUNS, max_size=4), st.floats(min_value=0, max_value=120), st.integers(min_value=0, max_value=3))
def test_healthy_means_time_is_up_and_every_last_run_passed(
    runs: list[list[bool]], elapsed: float, failures_allowed: int
) -> None:
    verdict = judge(
        plan(checks=len(runs), failures_allowed=failures_allowed), [history(run) for run in runs], elapsed=elapsed
    )
    if verdict is Verdict.HEALTHY:
        assert elapsed >= 60
        assert all(run and run[-1] for run in runs)
    if verdict is Verdict.UNHEALTHY:
        assert any(not any(run[-(failures_allowed + 1) :]) and len(run) > failures_allowed for run in runs)
