# SPDX-License-Identifier: Apache-2.0
"""Who belongs to which ring of a rollout, who is drafted, and what the rings' members have said. Pure."""

from collections.abc import Collection, Iterable, Mapping

from seeds.decisions.gates import RingEvidence
from seeds.records import Device, Rollout
from signing.policy import Policy, ring_point
from signing.report import InstallState
from signing.schedule import Draft

# A device that rolls back has failed its health check: waiting for it to finish would only let more install.
_FAILED = frozenset({InstallState.FAILED, InstallState.ROLLED_BACK, InstallState.ROLLING_BACK})


def reachable(rollout: Rollout, devices: Iterable[Device]) -> tuple[str, ...]:
    """Names of the devices that can get the release at all: it has a torrent for their segment. Sorted."""
    return tuple(sorted(device.device for device in devices if device.segment in rollout.segments))


def draft(policy: Policy, members: Collection[str], already: tuple[Draft, ...] = ()) -> tuple[Draft, ...]:
    """Fill every ring that has fewer than its `at_least` from the later rings, lowest ring point first.

    Who was drafted stays drafted as long as it is a member and the policy still allows it: a device that joins
    later never pushes one out that may have installed already. Never more than `at_least` drafts in a ring.
    """
    pinned = {device for ring in policy.rings for device in ring.devices}
    free = {member for member in members if member not in pinned}
    drafts = _still_valid(policy, free, already)
    hashed = {member: policy.ring_of(member) for member in members}
    by_point = sorted(free, key=lambda member: (ring_point(member), member))
    for index, ring in enumerate(policy.rings):
        place = {member: drafts.get(member, hashed[member]) for member in members}
        present = sum(1 for ring_index in place.values() if ring_index == index)
        room = ring.at_least - sum(1 for drafted_to in drafts.values() if drafted_to == index)
        candidates = (member for member in by_point if member not in drafts and hashed[member] > index)
        for member, _ in zip(candidates, range(min(ring.at_least - present, room)), strict=False):
            drafts[member] = index
    return tuple(Draft(device=device, ring=ring) for device, ring in drafts.items())


def _still_valid(policy: Policy, free: Collection[str], already: tuple[Draft, ...]) -> dict[str, int]:
    kept: dict[str, int] = {}
    for entry in already:
        if entry.device not in free or entry.ring >= len(policy.rings):
            continue
        taken = sum(1 for ring in kept.values() if ring == entry.ring)
        if taken < policy.rings[entry.ring].at_least:
            kept[entry.device] = entry.ring
    return kept


def gather_evidence(
    policy: Policy, members: Iterable[str], drafted: tuple[Draft, ...], states: Mapping[str, InstallState]
) -> tuple[RingEvidence, ...]:
    """The evidence of every ring, in order. `states` has the latest report on the release of those that sent one."""
    pairs = tuple((entry.device, entry.ring) for entry in drafted)
    total, committed, failed = ([0] * len(policy.rings) for _ in range(3))
    for member in members:
        ring, state = policy.ring_of(member, pairs), states.get(member)
        total[ring] += 1
        committed[ring] += state is InstallState.COMMITTED
        failed[ring] += state in _FAILED
    return tuple(
        RingEvidence(members=all_of, committed=good, failed=bad, pending=all_of - good - bad)
        for all_of, good, bad in zip(total, committed, failed, strict=True)
    )
