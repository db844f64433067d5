# SPDX-License-Identifier: Apache-2.0
"""Which rollouts an administrator may let go on, and what becomes of those that he wants to. Pure."""

from collections.abc import Collection, Iterable

from seeds.decisions.rollout_machine import by_age, resume
from seeds.records import Rollout, RolloutState


def judge_resumption(rollout: Rollout, rollouts: Iterable[Rollout]) -> str | None:
    """Why `rollout`, one of `rollouts`, cannot go on, in words; None when it can."""
    if rollout.state is not RolloutState.HALTED:
        return f"is {rollout.state}, not halted"
    newer = [
        other.version
        for other in sorted(rollouts, key=by_age)
        if other.product == rollout.product
        and other.state is not RolloutState.WITHDRAWN
        and by_age(other) > by_age(rollout)
    ]
    return f"was replaced by {newer[-1]}" if newer else None


def resume_asked(rollouts: Iterable[Rollout], manifests: Collection[str]) -> tuple[Rollout, ...]:
    """The rollouts, of which those in `manifests` go on. One that is not halted any more stays as it is."""
    return tuple(
        resume(rollout) if rollout.manifest_sha256 in manifests and rollout.state is RolloutState.HALTED else rollout
        for rollout in rollouts
    )
