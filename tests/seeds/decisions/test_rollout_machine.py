# SPDX-License-Identifier: Apache-2.0
"""The rollout goes ring by ring, stops for good reasons, and can do nothing that the table does not list."""

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seeds.decisions.gates import RingEvidence
from seeds.decisions.rollout_machine import (
    TRANSITIONS,
    Command,
    Complete,
    Event,
    Halt,
    IllegalTransition,
    OpenRing,
    Wait,
    advance,
    apply,
    next_state,
    resume,
    supersede,
    withdraw,
)
from seeds.records import Rollout, RolloutState
from signing.policy import Gate, Policy, Ring
from signing.reasons import Reason

NOW = 1_000_000.0
TWO_RINGS = Policy(version=1, segments=("office",), rings=(Ring(name="canary"), Ring(name="everyone")))


def release(counter: int = 1, state: RolloutState = RolloutState.WAITING, *, of: str = "tzdata") -> Rollout:
    return Rollout(
        manifest_sha256=f"{counter:064x}",
        product=of,
        version=str(counter),
        release_counter=counter,
        segments=("office",),
        state=state,
    )


def ring(committed: int = 0, failed: int = 0, pending: int = 0) -> RingEvidence:
    return RingEvidence(members=committed + failed + pending, committed=committed, failed=failed, pending=pending)


def test_a_good_release_goes_through_all_rings() -> None:
    rollout = release()
    story: list[tuple[list[RingEvidence], Command]] = [
        ([ring(pending=1), ring(pending=5)], OpenRing(ring=0)),
        ([ring(committed=1), ring(pending=5)], OpenRing(ring=1)),
        ([ring(committed=1), ring(committed=5)], Complete()),
    ]
    for evidence, expected in story:
        command = advance(rollout, evidence, TWO_RINGS, NOW)
        assert command == expected
        rollout = apply(rollout, expected)
    assert (rollout.state, rollout.open_rings) == (RolloutState.COMPLETE, 2)
    assert advance(rollout, [ring(committed=1), ring(committed=5)], TWO_RINGS, NOW) is None


def test_a_failing_canary_halts_before_the_next_ring_opens() -> None:
    running = apply(release(), OpenRing(ring=0))
    command = advance(running, [ring(failed=1), ring(pending=5)], TWO_RINGS, NOW)
    assert isinstance(command, Halt)
    halted = apply(running, command)
    assert (halted.state, halted.reason, halted.open_rings) == (RolloutState.HALTED, Reason.ERROR_GATE, 1)
    assert halted.sentence.startswith("ring canary: 1 of 1 failed")
    assert advance(halted, [ring(committed=1), ring(committed=5)], TWO_RINGS, NOW) is None


def test_a_late_failure_in_an_earlier_ring_halts_a_later_one() -> None:
    running = replace(release(), state=RolloutState.RUNNING, open_rings=2)
    assert isinstance(advance(running, [ring(committed=1, failed=1), ring(committed=5)], TWO_RINGS, NOW), Halt)


def test_failures_after_completion_halt_too() -> None:
    complete = replace(release(), state=RolloutState.COMPLETE, open_rings=2)
    command = advance(complete, [ring(committed=1), ring(committed=4, failed=1)], TWO_RINGS, NOW)
    assert isinstance(command, Halt)
    assert apply(complete, command).state is RolloutState.HALTED


def test_failures_in_a_ring_that_is_not_open_do_not_count() -> None:
    running = apply(release(), OpenRing(ring=0))
    assert isinstance(advance(running, [ring(pending=1), ring(failed=5)], TWO_RINGS, NOW), Wait)


def test_an_empty_ring_waits_but_an_empty_last_ring_completes() -> None:
    first = apply(release(), OpenRing(ring=0))
    command = advance(first, [ring(), ring(pending=5)], TWO_RINGS, NOW)
    assert isinstance(command, Wait)
    assert command.reason is Reason.RING_EMPTY

    last = apply(first, OpenRing(ring=1))
    assert advance(last, [ring(committed=1), ring()], TWO_RINGS, NOW) == Complete()


def test_a_soak_is_timed_and_starts_over_when_the_gate_no_longer_passes() -> None:
    gate = Gate(soak_seconds=60)
    policy = replace(TWO_RINGS, rings=(Ring(name="canary", gate=gate), Ring(name="everyone")))
    running = apply(release(), OpenRing(ring=0))

    command = advance(running, [ring(committed=1), ring(pending=5)], policy, NOW)
    assert isinstance(command, Wait)
    assert (command.reason, command.passed_since, command.until) == (Reason.RING_SOAKING, NOW, NOW + 60)
    soaking = apply(running, command)
    again = advance(soaking, [ring(committed=1), ring(pending=5)], policy, NOW + 30)
    assert isinstance(again, Wait)
    assert again.until == NOW + 60
    assert advance(soaking, [ring(committed=1), ring(pending=5)], policy, NOW + 60) == OpenRing(ring=1)

    joined = advance(soaking, [ring(committed=1, pending=1), ring(pending=5)], policy, NOW + 30)
    assert isinstance(joined, Wait)
    assert apply(soaking, joined).passed_since is None


def test_missing_evidence_waits() -> None:
    running = apply(release(), OpenRing(ring=0))
    command = advance(running, [], TWO_RINGS, NOW)
    assert isinstance(command, Wait)
    assert command.reason is Reason.EVIDENCE_MISSING


def test_a_policy_with_fewer_rings_than_are_open_is_judged_by_its_last() -> None:
    running = replace(release(), state=RolloutState.RUNNING, open_rings=3)
    assert advance(running, [ring(committed=1), ring(committed=5)], TWO_RINGS, NOW) == Complete()


small = st.builds(ring, st.integers(0, 5), st.integers(0, 5), st.integers(0, 5))
gates = st.builds(
    Gate,
    success_percent=st.sampled_from([0.0, 50.0, 100.0]),
    error_percent=st.sampled_from([0.0, 50.0]),
    soak_seconds=st.sampled_from([0.0, 60.0]),
)


@given(
    first=gates,
    second=gates,
    steps=st.lists(st.tuples(small, small, st.floats(0, 100)), max_size=12),
)
def test_no_evidence_makes_it_do_what_the_table_forbids(
    first: Gate, second: Gate, steps: list[tuple[RingEvidence, RingEvidence, float]]
) -> None:
    policy = replace(TWO_RINGS, rings=(Ring(name="canary", gate=first), Ring(name="everyone", gate=second)))
    rollout, now = release(), NOW
    for canary, everyone, seconds in steps:
        now += seconds
        command = advance(rollout, [canary, everyone], policy, now)
        if command is None:
            continue
        after = apply(rollout, command)
        assert after.open_rings - rollout.open_rings in (0, 1)
        if after.open_rings == 2 > rollout.open_rings:
            assert canary.committed >= 1
            assert canary.committed * 100 >= first.success_percent * canary.members
        rollout = after


def test_every_pair_outside_the_table_is_illegal() -> None:
    for state, event in product(RolloutState, Event):
        if (state, event) in TRANSITIONS:
            assert next_state(state, event) is TRANSITIONS[state, event]
        else:
            with pytest.raises(IllegalTransition, match=event.value):
                next_state(state, event)


@pytest.mark.parametrize("command", [OpenRing(ring=1), Halt(reason=Reason.ERROR_GATE, sentence=""), Complete()])
def test_a_halted_rollout_takes_no_command(command: Command) -> None:
    with pytest.raises(IllegalTransition):
        apply(release(state=RolloutState.HALTED), command)


def test_a_halted_rollout_goes_on_where_it_stood_when_it_is_resumed() -> None:
    halted = replace(
        release(state=RolloutState.HALTED), open_rings=2, reason=Reason.ERROR_GATE, sentence="1 of 1 failed"
    )
    going = resume(halted)
    assert (going.state, going.open_rings, going.reason, going.sentence) == (RolloutState.RUNNING, 2, None, "")
    with pytest.raises(IllegalTransition):
        resume(going)


def test_a_newer_release_supersedes_what_is_unfinished_and_leaves_what_is_complete() -> None:
    rollouts = (
        release(1, RolloutState.COMPLETE),
        release(2, RolloutState.HALTED),
        release(3, RolloutState.RUNNING),
        release(4, RolloutState.WAITING),
        release(1, RolloutState.RUNNING, of="firefox"),
    )
    (superseded,) = supersede(rollouts)
    assert (superseded.version, superseded.state) == ("3", RolloutState.SUPERSEDED)
    assert (superseded.reason, superseded.sentence) == (Reason.SUPERSEDED, "4 is newer")


def test_a_withdrawn_release_supersedes_nothing() -> None:
    assert supersede((release(1, RolloutState.RUNNING), release(2, RolloutState.WITHDRAWN))) == ()


@pytest.mark.parametrize("state", [state for state in RolloutState if state is not RolloutState.WITHDRAWN])
def test_a_recall_withdraws_from_any_state(state: RolloutState) -> None:
    withdrawn = withdraw(release(state=state), "it eats files")
    assert withdrawn.state is RolloutState.WITHDRAWN
    assert (withdrawn.reason, withdrawn.sentence) == (Reason.WITHDRAWN, "it eats files")
