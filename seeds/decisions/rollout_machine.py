# SPDX-License-Identifier: Apache-2.0
"""The rollout's state machine: a table, and pure functions that say which commands the evidence calls for.

Everything that changes a rollout's state stands in this file. It does no I/O; `now` is an argument.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from seeds.decisions.gates import Action, RingEvidence, exceeds_errors, judge_ring
from seeds.records import Rollout, RolloutState
from signing.policy import Policy
from signing.reasons import Reason, explain


class Event(StrEnum):
    """What can happen to a rollout."""

    RING_OPENED = "ring_opened"
    ERRORS_EXCEEDED = "errors_exceeded"
    LAST_RING_PASSED = "last_ring_passed"
    RECALLED = "recalled"
    NEWER_RELEASE = "newer_release"
    RESUMED = "resumed"


# A complete rollout still halts: the last ring may pass at less than 100 %, and whoever is left, or joins late,
# must not go on installing what has begun to fail.
TRANSITIONS: dict[tuple[RolloutState, Event], RolloutState] = {
    (RolloutState.WAITING, Event.RING_OPENED): RolloutState.RUNNING,
    (RolloutState.RUNNING, Event.RING_OPENED): RolloutState.RUNNING,
    (RolloutState.RUNNING, Event.ERRORS_EXCEEDED): RolloutState.HALTED,
    (RolloutState.COMPLETE, Event.ERRORS_EXCEEDED): RolloutState.HALTED,
    (RolloutState.HALTED, Event.RESUMED): RolloutState.RUNNING,
    (RolloutState.RUNNING, Event.LAST_RING_PASSED): RolloutState.COMPLETE,
    (RolloutState.WAITING, Event.NEWER_RELEASE): RolloutState.SUPERSEDED,
    (RolloutState.RUNNING, Event.NEWER_RELEASE): RolloutState.SUPERSEDED,
    (RolloutState.WAITING, Event.RECALLED): RolloutState.WITHDRAWN,
    (RolloutState.RUNNING, Event.RECALLED): RolloutState.WITHDRAWN,
    (RolloutState.HALTED, Event.RECALLED): RolloutState.WITHDRAWN,
    (RolloutState.COMPLETE, Event.RECALLED): RolloutState.WITHDRAWN,
    (RolloutState.SUPERSEDED, Event.RECALLED): RolloutState.WITHDRAWN,
}


class IllegalTransition(Exception):
    """The event cannot happen in that state: a bug in the caller, never the world's fault."""


def next_state(state: RolloutState, event: Event) -> RolloutState:
    """The state after `event`. Raises IllegalTransition."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition(f"{event.value!r} while {state.value!r}") from None


@dataclass(frozen=True, kw_only=True)
class OpenRing:
    """Let the members of `ring` install."""

    ring: int


@dataclass(frozen=True, kw_only=True)
class Halt:
    """Nobody starts a new install."""

    reason: Reason
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Complete:
    """Every ring has passed."""


@dataclass(frozen=True, kw_only=True)
class Wait:
    """Nothing to do now. `until` is the time at which a soak ends, None if only evidence can change the answer."""

    reason: Reason
    sentence: str
    passed_since: float | None = None
    until: float | None = None


Command = OpenRing | Halt | Complete | Wait


def advance(rollout: Rollout, evidence: Sequence[RingEvidence], policy: Policy, now: float) -> Command | None:
    """The one command that the evidence of the rings (in order) calls for; None when the rollout is at rest.

    Errors in any open ring halt the rollout, whichever ring is being judged for success. A ring without members
    waits, except for the last: nobody is left for whom to wait. Only if nobody has proved the release, because all
    failures were forgiven and no ring came before, the last ring waits, too.
    """
    if rollout.state not in (RolloutState.WAITING, RolloutState.RUNNING, RolloutState.COMPLETE):
        return None
    open_rings = min(rollout.open_rings, len(policy.rings))
    for ring, found in zip(policy.rings[:open_rings], evidence, strict=False):
        if exceeds_errors(found, ring.gate):
            verdict = judge_ring(found, ring.gate, passed_since=None, now=now)
            return Halt(reason=Reason.ERROR_GATE, sentence=f"ring {ring.name}: {verdict.sentence}")
    if rollout.state is RolloutState.COMPLETE:
        return None
    if open_rings == 0:
        return OpenRing(ring=0)
    return _judge_newest_ring(rollout, open_rings - 1, evidence, policy, now)


def _judge_newest_ring(
    rollout: Rollout, index: int, evidence: Sequence[RingEvidence], policy: Policy, now: float
) -> Command:
    ring, is_last = policy.rings[index], index == len(policy.rings) - 1
    if index >= len(evidence):
        return Wait(reason=Reason.EVIDENCE_MISSING, sentence=f"ring {ring.name}: {explain(Reason.EVIDENCE_MISSING)}")
    verdict = judge_ring(evidence[index], ring.gate, passed_since=rollout.passed_since, now=now)
    nobody_is_left = is_last and verdict.reason is Reason.RING_EMPTY and (index > 0 or not evidence[index].forgiven)
    if verdict.action is Action.ADVANCE or nobody_is_left:
        return Complete() if is_last else OpenRing(ring=index + 1)
    since = (now if rollout.passed_since is None else rollout.passed_since) if verdict.passes else None
    return Wait(
        reason=verdict.reason or Reason.EVIDENCE_MISSING,
        sentence=f"ring {ring.name}: {verdict.sentence}",
        passed_since=since,
        until=None if since is None else since + ring.gate.soak_seconds,
    )


def apply(rollout: Rollout, command: Command) -> Rollout:
    """The rollout after `command`. Raises IllegalTransition."""
    match command:
        case OpenRing(ring=ring):
            state = next_state(rollout.state, Event.RING_OPENED)
            return replace(rollout, state=state, open_rings=ring + 1, passed_since=None, reason=None, sentence="")
        case Halt(reason=reason, sentence=sentence):
            state = next_state(rollout.state, Event.ERRORS_EXCEEDED)
            return replace(rollout, state=state, passed_since=None, reason=reason, sentence=sentence)
        case Complete():
            state = next_state(rollout.state, Event.LAST_RING_PASSED)
            return replace(rollout, state=state, passed_since=None, reason=None, sentence="")
        case Wait(reason=reason, sentence=sentence, passed_since=since):
            return replace(rollout, passed_since=since, reason=reason, sentence=sentence)


def resume(rollout: Rollout) -> Rollout:
    """The rollout after an administrator said that it shall go on. Raises IllegalTransition."""
    state = next_state(rollout.state, Event.RESUMED)
    return replace(rollout, state=state, passed_since=None, reason=None, sentence="")


def withdraw(rollout: Rollout, why: str) -> Rollout:
    """The rollout after a signed recall of its release. Raises IllegalTransition."""
    state = next_state(rollout.state, Event.RECALLED)
    return replace(rollout, state=state, passed_since=None, reason=Reason.WITHDRAWN, sentence=why)


def supersede(rollouts: Iterable[Rollout]) -> tuple[Rollout, ...]:
    """The unfinished rollouts that a newer release of their product replaces, in their new state.

    A withdrawn release replaces nothing. What is complete stays complete: it is what late joiners fall back on.
    """
    every = tuple(rollouts)
    newest: dict[str, Rollout] = {}
    for rollout in every:
        if rollout.state is not RolloutState.WITHDRAWN:
            newest[rollout.product] = max(rollout, newest.get(rollout.product, rollout), key=by_age)
    return tuple(
        replace(
            rollout,
            state=next_state(rollout.state, Event.NEWER_RELEASE),
            passed_since=None,
            reason=Reason.SUPERSEDED,
            sentence=f"{newest[rollout.product].version} is newer",
        )
        for rollout in every
        if rollout.state in (RolloutState.WAITING, RolloutState.RUNNING) and rollout is not newest[rollout.product]
    )


def by_age(rollout: Rollout) -> tuple[int, str]:
    """Sorting key, oldest first: the release counter; the digest makes the order total."""
    return rollout.release_counter, rollout.manifest_sha256
