# SPDX-License-Identifier: Apache-2.0
"""Gates: has a ring proved a release? Pure, and failing closed: what is not known to be good waits."""

from dataclasses import dataclass
from enum import StrEnum

from signing.policy import Gate
from signing.reasons import Reason, explain


@dataclass(frozen=True, kw_only=True)
class RingEvidence:
    """What the members of a ring have said in signed reports. `pending` have said nothing that counts yet.

    `forgiven` failed before an administrator let the rollout go on. They are no members: they prove nothing.
    """

    members: int
    committed: int
    failed: int
    pending: int
    forgiven: int = 0

    def __post_init__(self) -> None:
        if min(self.committed, self.failed, self.pending, self.forgiven) < 0:
            raise ValueError("counts of evidence cannot be negative")
        if self.committed + self.failed + self.pending != self.members:
            raise ValueError("committed, failed and pending must add up to members")


class Action(StrEnum):
    """What a gate says."""

    ADVANCE = "advance"
    WAIT = "wait"
    HALT = "halt"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A gate's answer. `passes` is true while the evidence suffices, also when the soak is not over."""

    action: Action
    reason: Reason | None
    sentence: str
    passes: bool = False


def judge_ring(evidence: RingEvidence, gate: Gate, *, passed_since: float | None, now: float) -> Verdict:
    """Judge one open ring. `passed_since` is when its evidence first sufficed, None if it did not until now.

    Errors are judged before successes. Rate and count must both be reached, for success and for error alike.
    """
    if evidence.members == 0:
        sentence = explain(Reason.RING_EMPTY)
        if evidence.forgiven:
            sentence += f"; {evidence.forgiven} failed, were forgiven and do not count"
        return Verdict(action=Action.WAIT, reason=Reason.RING_EMPTY, sentence=sentence)
    if exceeds_errors(evidence, gate):
        sentence = (
            f"{evidence.failed} of {evidence.members} failed; the gate allows {gate.error_percent:g} % "
            f"and fewer than {gate.error_count}"
        )
        return Verdict(action=Action.HALT, reason=Reason.ERROR_GATE, sentence=sentence)
    if not _has_succeeded(evidence, gate):
        sentence = (
            f"{evidence.committed} of {evidence.members} committed, {evidence.failed} failed; the gate asks for "
            f"{gate.success_percent:g} % and at least {gate.success_count}"
        )
        return Verdict(action=Action.WAIT, reason=Reason.EVIDENCE_MISSING, sentence=sentence)
    soaked_seconds = 0.0 if passed_since is None else now - passed_since
    if not soaked_seconds >= gate.soak_seconds:
        sentence = f"{explain(Reason.RING_SOAKING)} for {gate.soak_seconds:g} s"
        return Verdict(action=Action.WAIT, reason=Reason.RING_SOAKING, sentence=sentence, passes=True)
    sentence = f"{evidence.committed} of {evidence.members} committed and the soak is over"
    return Verdict(action=Action.ADVANCE, reason=None, sentence=sentence, passes=True)


def exceeds_errors(evidence: RingEvidence, gate: Gate) -> bool:
    """Too many failed, by rate and by count."""
    return evidence.failed >= gate.error_count and evidence.failed * 100 > gate.error_percent * evidence.members


def _has_succeeded(evidence: RingEvidence, gate: Gate) -> bool:
    enough = evidence.committed >= gate.success_count
    return enough and evidence.committed * 100 >= gate.success_percent * evidence.members
