# SPDX-License-Identifier: Apache-2.0
"""An administrator may let a halted rollout go on: old failures are forgiven, new ones halt it as before."""

import pytest

from seeds.decisions.fleet_step import Settled, settle
from seeds.decisions.resumption import judge_resumption, resume_asked
from seeds.records import Device, Rollout, RolloutState, Said
from signing.policy import Policy, Ring
from signing.reasons import Reason
from signing.report import InstallState

NOW = 1_000_000.0
DRAFTING = Policy(version=1, segments=("office",), rings=(Ring(name="canary", at_least=1), Ring(name="everyone")))
GOOD = Said(state=InstallState.COMMITTED)
BAD = Said(state=InstallState.ROLLED_BACK, reason=Reason.HEALTH_CHECK_FAILED)
FORGIVEN = Said(state=InstallState.ROLLED_BACK, reason=Reason.HEALTH_CHECK_FAILED, forgiven=True)


def release(counter: int = 1, state: RolloutState = RolloutState.WAITING, *, of: str = "tzdata") -> Rollout:
    return Rollout(
        manifest_sha256=f"{counter:064x}",
        product=of,
        version=str(counter),
        release_counter=counter,
        segments=("office",),
        state=state,
    )


DEVICES = tuple(
    Device(
        device=name,
        segment="office",
        site="paris",
        public_pem=b"",
        token_sha256="",
        enrolled_at=0,
        certificate_expires=0,
    )
    for name in "abc"
)


def step(rollout: Rollout, said: dict[str, Said], policy: Policy = DRAFTING) -> Rollout:
    settled: Settled = settle(policy, DEVICES, (rollout,), {rollout.manifest_sha256: said}, now=NOW)
    return settled.rollouts[0]


def resumed(rollout: Rollout) -> Rollout:
    (after,) = resume_asked((rollout,), {rollout.manifest_sha256})
    return after


def halted_by_its_canary(policy: Policy = DRAFTING) -> tuple[Rollout, str]:
    started = step(release(), {}, policy)
    canary = started.drafted[0].device if started.drafted else "a"
    halted = step(started, {canary: BAD}, policy)
    assert halted.state is RolloutState.HALTED
    return halted, canary


def test_a_resumed_rollout_goes_on_with_another_canary_and_all_the_way() -> None:
    halted, first = halted_by_its_canary()
    going = step(resumed(halted), {first: FORGIVEN})
    (second,) = (entry.device for entry in going.drafted)
    assert (going.state, going.open_rings, going.reason) == (RolloutState.RUNNING, 1, Reason.EVIDENCE_MISSING)
    assert second != first

    opened = step(going, {first: FORGIVEN, second: GOOD})
    assert opened.open_rings == 2
    (third,) = set("abc") - {first, second}
    assert step(opened, {first: FORGIVEN, second: GOOD, third: GOOD}).state is RolloutState.COMPLETE


def test_the_same_evidence_does_not_halt_it_again_but_new_failures_do() -> None:
    halted, first = halted_by_its_canary()
    going = step(resumed(halted), {first: FORGIVEN})
    assert step(going, {first: FORGIVEN}).state is RolloutState.RUNNING
    assert step(going, {first: FORGIVEN, going.drafted[0].device: BAD}).state is RolloutState.HALTED


def test_a_release_that_nobody_has_proved_never_passes_by_being_forgiven() -> None:
    pinned = Policy(version=1, segments=("office",), rings=(Ring(name="canary", devices=("a",)), Ring(name="everyone")))
    halted, canary = halted_by_its_canary(pinned)
    waiting = step(resumed(halted), {canary: FORGIVEN}, pinned)
    assert (waiting.state, waiting.open_rings, waiting.reason) == (RolloutState.RUNNING, 1, Reason.RING_EMPTY)
    assert waiting.sentence.endswith("1 failed, were forgiven and do not count")

    alone = Policy(version=1, segments=("office",), rings=(Ring(name="everyone"),))
    halted = step(release(), dict.fromkeys("abc", BAD), alone)
    waiting = step(resumed(halted), dict.fromkeys("abc", FORGIVEN), alone)
    assert (waiting.state, waiting.reason) == (RolloutState.RUNNING, Reason.RING_EMPTY)


def test_a_last_ring_without_anyone_to_wait_for_completes_after_rings_that_proved_it() -> None:
    done = step(resumed(halted_in_the_last_ring()), {"a": GOOD, "b": FORGIVEN, "c": FORGIVEN}, PINNED)
    assert done.state is RolloutState.COMPLETE


PINNED = Policy(version=1, segments=("office",), rings=(Ring(name="canary", devices=("a",)), Ring(name="everyone")))


def halted_in_the_last_ring() -> Rollout:
    halted = step(release(), {"a": GOOD, "b": BAD, "c": BAD}, PINNED)
    assert (halted.state, halted.open_rings) == (RolloutState.HALTED, 2)
    return halted


@pytest.mark.parametrize("state", [state for state in RolloutState if state is not RolloutState.HALTED])
def test_only_a_halted_rollout_goes_on(state: RolloutState) -> None:
    rollout = release(state=state)
    assert judge_resumption(rollout, (rollout,)) == f"is {state}, not halted"
    assert resumed(rollout) == rollout


def test_a_rollout_that_was_replaced_stays_halted() -> None:
    halted = release(1, RolloutState.HALTED)
    others = (release(9, of="firefox"), release(3, RolloutState.WITHDRAWN))
    assert judge_resumption(halted, (halted, *others)) is None
    assert judge_resumption(halted, (halted, *others, release(2))) == "was replaced by 2"


def test_nobody_else_is_resumed() -> None:
    halted = release(1, RolloutState.HALTED)
    assert resume_asked((halted,), set()) == (halted,)
