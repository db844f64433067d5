# SPDX-License-Identifier: Apache-2.0
"""Gates ask for rate and count, judge errors first, and wait when they do not know."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seeds.decisions.gates import Action, RingEvidence, judge_ring
from signing.policy import Gate
from signing.reasons import Reason

NOW = 1_000_000.0

percents = st.floats(0, 100)
gates = st.builds(
    Gate,
    success_percent=percents,
    success_count=st.integers(1, 20),
    error_percent=percents,
    error_count=st.integers(1, 20),
    soak_seconds=st.floats(0, 10_000),
)


def evidence(committed: int, failed: int, pending: int) -> RingEvidence:
    return RingEvidence(members=committed + failed + pending, committed=committed, failed=failed, pending=pending)


found = st.builds(evidence, st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
since = st.none() | st.floats(0, 2 * NOW)


@given(gate=gates, passed_since=since)
def test_a_ring_without_members_waits(gate: Gate, passed_since: float | None) -> None:
    verdict = judge_ring(evidence(0, 0, 0), gate, passed_since=passed_since, now=NOW)
    assert (verdict.action, verdict.reason) == (Action.WAIT, Reason.RING_EMPTY)


@given(found=found, gate=gates, passed_since=since)
def test_halts_exactly_when_rate_and_count_of_failures_are_exceeded(
    found: RingEvidence, gate: Gate, passed_since: float | None
) -> None:
    verdict = judge_ring(found, gate, passed_since=passed_since, now=NOW)
    too_many = found.members > 0 and found.failed >= gate.error_count
    too_often = found.failed * 100 > gate.error_percent * found.members
    assert (verdict.action is Action.HALT) == (too_many and too_often)


@given(found=found, gate=gates, passed_since=since)
def test_advances_only_on_enough_commits_and_a_finished_soak(
    found: RingEvidence, gate: Gate, passed_since: float | None
) -> None:
    verdict = judge_ring(found, gate, passed_since=passed_since, now=NOW)
    if verdict.action is Action.ADVANCE:
        assert found.committed >= gate.success_count
        assert found.committed * 100 >= gate.success_percent * found.members
        assert gate.soak_seconds == 0 or (passed_since is not None and NOW - passed_since >= gate.soak_seconds)
    else:
        assert verdict.reason is not None
        assert verdict.sentence


@given(found=found, gate=gates, passed_since=since)
def test_one_more_failure_never_lets_a_ring_advance(
    found: RingEvidence, gate: Gate, passed_since: float | None
) -> None:
    before = judge_ring(found, gate, passed_since=passed_since, now=NOW)
    worse = judge_ring(
        evidence(found.committed, found.failed + 1, found.pending), gate, passed_since=passed_since, now=NOW
    )
    if before.action is not Action.ADVANCE:
        assert worse.action is not Action.ADVANCE


def test_the_soak_counts_from_when_the_evidence_sufficed() -> None:
    gate, good = Gate(soak_seconds=60), evidence(3, 0, 0)

    first = judge_ring(good, gate, passed_since=None, now=NOW)
    assert (first.action, first.reason, first.passes) == (Action.WAIT, Reason.RING_SOAKING, True)
    assert judge_ring(good, gate, passed_since=NOW, now=NOW + 59).action is Action.WAIT
    assert judge_ring(good, gate, passed_since=NOW, now=NOW + 60).action is Action.ADVANCE


def test_a_clock_set_back_does_not_end_a_soak() -> None:
    verdict = judge_ring(evidence(3, 0, 0), Gate(soak_seconds=60), passed_since=NOW, now=NOW - 1_000)
    assert verdict.action is Action.WAIT


def test_errors_outweigh_successes() -> None:
    gate = Gate(success_percent=50, error_percent=10, error_count=1)
    assert judge_ring(evidence(9, 1, 0), gate, passed_since=None, now=NOW).action is Action.ADVANCE
    assert judge_ring(evidence(8, 2, 0), gate, passed_since=None, now=NOW).action is Action.HALT


def test_the_sentence_tells_the_numbers() -> None:
    verdict = judge_ring(evidence(1, 0, 3), Gate(success_percent=75), passed_since=None, now=NOW)
    assert verdict.reason is Reason.EVIDENCE_MISSING
    assert verdict.sentence == "1 of 4 committed, 0 failed; the gate asks for 75 % and at least 1"


def test_a_ring_whose_failures_were_all_forgiven_says_so() -> None:
    nobody_left = RingEvidence(members=0, committed=0, failed=0, pending=0, forgiven=2)
    verdict = judge_ring(nobody_left, Gate(), passed_since=None, now=NOW)
    assert (verdict.action, verdict.reason) == (Action.WAIT, Reason.RING_EMPTY)
    assert "2 failed, were forgiven" in verdict.sentence


def test_evidence_that_does_not_add_up_is_refused() -> None:
    with pytest.raises(ValueError, match="add up"):
        RingEvidence(members=3, committed=1, failed=0, pending=0)
    with pytest.raises(ValueError, match="negative"):
        RingEvidence(members=0, committed=1, failed=0, pending=-1)
