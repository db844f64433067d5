# SPDX-License-Identifier: Apache-2.0
"""One step takes every rollout as far as the evidence carries it, and no further."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from seeds.decisions.fleet_step import Settled, newest_of_each, retire, settle, watched
from seeds.records import Device, Rollout, RolloutState, Said
from signing.policy import Gate, Policy, Ring
from signing.reasons import Reason
from signing.recall import Recall, RecallList
from signing.report import InstallState

NOW = 1_000_000.0
POLICY = Policy(version=1, segments=("office",), rings=(Ring(name="canary", at_least=1), Ring(name="everyone")))


def release(counter: int, state: RolloutState = RolloutState.WAITING, *, of: str = "tzdata") -> Rollout:
    return Rollout(
        manifest_sha256=f"{counter:064x}",
        product=of,
        version=str(counter),
        release_counter=counter,
        segments=("office",),
        state=state,
    )


def device(name: str, segment: str = "office") -> Device:
    return Device(
        device=name,
        segment=segment,
        site="paris",
        public_pem=b"",
        token_sha256="",
        enrolled_at=0,
        certificate_expires=0,
    )


DEVICES = tuple(device(name) for name in ("a", "b", "c"))


def step(rollout: Rollout, states: dict[str, InstallState], *, policy: Policy = POLICY, now: float = NOW) -> Settled:
    said = {name: Said(state=state) for name, state in states.items()}
    return settle(policy, DEVICES, (rollout,), {rollout.manifest_sha256: said}, now=now)


def test_a_release_goes_from_a_drafted_canary_to_everyone_to_complete() -> None:
    (started,) = step(release(1), {}).rollouts
    (canary,) = started.drafted
    assert (started.state, started.open_rings, started.reason) == (RolloutState.RUNNING, 1, Reason.EVIDENCE_MISSING)

    (opened,) = step(started, {canary.device: InstallState.COMMITTED}).rollouts
    assert (opened.state, opened.open_rings, opened.drafted) == (RolloutState.RUNNING, 2, (canary,))

    (complete,) = step(opened, dict.fromkeys("abc", InstallState.COMMITTED)).rollouts
    assert (complete.state, complete.reason) == (RolloutState.COMPLETE, None)


def test_a_step_that_finds_everything_done_goes_all_the_way() -> None:
    (complete,) = step(release(1), dict.fromkeys("abc", InstallState.COMMITTED)).rollouts
    assert complete.state is RolloutState.COMPLETE


def test_only_commits_after_probation_count() -> None:
    (started,) = step(release(1), dict.fromkeys("abc", InstallState.PROBATION)).rollouts
    assert (started.open_rings, started.reason) == (1, Reason.EVIDENCE_MISSING)


def test_the_end_of_the_soonest_soak_is_told() -> None:
    policy = replace(POLICY, rings=(Ring(name="canary", at_least=1, gate=Gate(soak_seconds=60)), POLICY.rings[1]))
    (started,) = step(release(1), {}, policy=policy).rollouts
    soaking = step(started, {started.drafted[0].device: InstallState.COMMITTED}, policy=policy)
    assert soaking.due == NOW + 60
    assert soaking.rollouts[0].reason is Reason.RING_SOAKING


def test_a_release_that_reaches_nobody_waits() -> None:
    settled = settle(POLICY, (device("a", "lab"),), (release(1),), {}, now=NOW)
    assert settled.rollouts[0].reason is Reason.RING_EMPTY


def test_recalls_withdraw_once_and_newer_releases_supersede() -> None:
    recalls = RecallList(
        version=2, recalls=(Recall(product="tzdata", version="2", manifest_sha256=f"{2:064x}", why="bad"),)
    )
    rollouts = (release(1, RolloutState.RUNNING), release(2, RolloutState.RUNNING), release(3))
    first, second, third = retire(rollouts, recalls)
    assert (first.state, second.state, third.state) == (
        RolloutState.SUPERSEDED,
        RolloutState.WITHDRAWN,
        RolloutState.WAITING,
    )
    assert retire((first, second, third), recalls) == (first, second, third)


def test_only_what_is_offered_and_may_change_is_watched() -> None:
    rollouts = (
        release(1, RolloutState.COMPLETE),
        release(2, RolloutState.COMPLETE),
        release(3, RolloutState.HALTED),
        release(4, RolloutState.RUNNING),
    )
    assert [rollout.version for rollout in watched(rollouts)] == ["4", "2"]


def test_the_newest_of_each_product_is_by_counter() -> None:
    newest = newest_of_each((release(2), release(1), release(1, of="firefox")))
    assert {product: rollout.version for product, rollout in newest.items()} == {"tzdata": "2", "firefox": "1"}


words = st.sampled_from([None, *InstallState])


@given(st.lists(st.tuples(words, words, words), min_size=1, max_size=8))
def test_settling_twice_changes_nothing_and_a_failure_stops_everything(
    story: list[tuple[InstallState | None, ...]],
) -> None:
    rollout = release(1)
    for said in story:
        states = {name: state for name, state in zip("abc", said, strict=True) if state is not None}
        (after,) = step(rollout, states).rollouts
        assert step(after, states).rollouts == (after,)
        if rollout.state is RolloutState.HALTED:
            assert after == rollout
        if after.open_rings == 2 and rollout.open_rings < 2:
            canaries = [entry.device for entry in after.drafted]
            assert all(states.get(name) is InstallState.COMMITTED for name in canaries)
        rollout = after
