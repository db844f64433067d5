# SPDX-License-Identifier: Apache-2.0
"""One step of all rollouts together: what the recalls, the newer releases and the evidence make of them. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from seeds.decisions.evidence import Standing, standing
from seeds.decisions.rings import Placement, reachable
from seeds.decisions.rollout_machine import Wait, advance, apply, by_age, supersede, withdraw
from seeds.decisions.schedule_plan import offered
from seeds.records import Device, Rollout, RolloutState, Said
from signing.policy import Policy
from signing.recall import RecallList

_JUDGED = (RolloutState.WAITING, RolloutState.RUNNING, RolloutState.COMPLETE)


@dataclass(frozen=True, kw_only=True)
class Settled:
    """All rollouts as they stand now, and the time at which the next soak ends, if one does."""

    rollouts: tuple[Rollout, ...]
    due: float | None


def retire(rollouts: Iterable[Rollout], recalls: RecallList) -> tuple[Rollout, ...]:
    """Withdraw what was recalled, then supersede what a newer release replaces."""
    standing = tuple(_withdrawn(rollout, recalls) for rollout in rollouts)
    superseded = {rollout.manifest_sha256: rollout for rollout in supersede(standing)}
    return tuple(superseded.get(rollout.manifest_sha256, rollout) for rollout in standing)


def _withdrawn(rollout: Rollout, recalls: RecallList) -> Rollout:
    recall = recalls.withdraws(rollout.manifest_sha256)
    if recall is None or rollout.state is RolloutState.WITHDRAWN:
        return rollout
    return withdraw(rollout, recall.why)


def watched(rollouts: Iterable[Rollout]) -> tuple[Rollout, ...]:
    """The rollouts whose evidence matters: those that schedules offer and that may still change."""
    return tuple(rollout for rollout in offered(rollouts) if rollout.state in _JUDGED)


def settle(
    policy: Policy,
    devices: Sequence[Device],
    rollouts: Sequence[Rollout],
    said: Mapping[str, Mapping[str, Said]],
    *,
    now: float,
) -> Settled:
    """Take every watched rollout as far as the evidence carries it. `said` is by manifest, then by device."""
    after: dict[str, Rollout] = {rollout.manifest_sha256: rollout for rollout in rollouts}
    placement = Placement(policy, (device.device for device in devices))
    ends: list[float] = []
    for rollout in watched(rollouts):
        about_it = said.get(rollout.manifest_sha256, {})
        moved, until = _advance_fully(policy, placement, reachable(rollout, devices), rollout, about_it, now)
        after[rollout.manifest_sha256] = moved
        ends += [] if until is None else [until]
    return Settled(rollouts=tuple(after.values()), due=min(ends, default=None))


def _advance_fully(
    policy: Policy,
    placement: Placement,
    members: Sequence[str],
    rollout: Rollout,
    said: Mapping[str, Said],
    now: float,
) -> tuple[Rollout, float | None]:
    if rollout.state is not RolloutState.COMPLETE:  # once all rings are open, a draft changes nothing
        # Whoever was forgiven proves nothing, so another takes its place.
        able = [member for member in members if standing(said.get(member)) is not Standing.FORGIVEN]
        rollout = replace(rollout, drafted=placement.draft(able, rollout.drafted))
    evidence = placement.gather(members, rollout.drafted, said)
    # Each turn opens a ring, ends the rollout or waits, so this ends after one turn more than there are rings.
    while (command := advance(rollout, evidence, policy, now)) is not None:
        rollout = apply(rollout, command)
        if isinstance(command, Wait):
            return rollout, command.until
    return rollout, None


def newest_of_each(rollouts: Iterable[Rollout]) -> dict[str, Rollout]:
    """The newest rollout of every product, by product."""
    return {rollout.product: rollout for rollout in sorted(rollouts, key=by_age)}
