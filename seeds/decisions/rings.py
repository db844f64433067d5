# SPDX-License-Identifier: Apache-2.0
"""Who belongs to which ring of a rollout, who is drafted, and what the rings' members have said. Pure."""

from collections import Counter as Tally
from collections.abc import Collection, Iterable, Mapping
from heapq import nsmallest

from seeds.decisions.evidence import Standing, standing
from seeds.decisions.gates import RingEvidence
from seeds.records import Device, Rollout, Said
from signing.policy import Policy, ring_point
from signing.schedule import Draft


def reachable(rollout: Rollout, devices: Iterable[Device]) -> tuple[str, ...]:
    """Names of the devices that can get the release at all: it has a torrent for their segment. Sorted."""
    return tuple(sorted(device.device for device in devices if device.segment in rollout.segments))


class Placement:
    """The rings of a policy and where its stable hash puts devices, worked out once for many rollouts."""

    def __init__(self, policy: Policy, devices: Iterable[str]) -> None:
        self._policy = policy
        self._pinned = {device for ring in policy.rings for device in ring.devices}
        self._rings = {device: policy.ring_of(device) for device in devices}

    def ring_of(self, device: str, drafted: Mapping[str, int]) -> int:
        """As `Policy.ring_of`: pins first, then drafts, then the hash."""
        ring = self._rings[device]
        return ring if device in self._pinned else drafted.get(device, ring)

    def draft(self, members: Collection[str], already: tuple[Draft, ...] = ()) -> tuple[Draft, ...]:
        """Fill every ring that has fewer than its `at_least` from the later rings, lowest ring point first.

        Who was drafted stays drafted as long as it is a member and the policy still allows it: a device that joins
        later never pushes one out that may have installed already. Never more than `at_least` drafts in a ring.
        """
        drafts = self._still_valid(members, already)
        present = Tally(self.ring_of(member, drafts) for member in members)
        for index, ring in enumerate(self._policy.rings):
            room = ring.at_least - sum(1 for drafted_to in drafts.values() if drafted_to == index)
            for member in self._candidates(index, members, drafts, min(ring.at_least - present[index], room)):
                present[self.ring_of(member, drafts)] -= 1
                drafts[member] = index
                present[index] += 1
        return tuple(Draft(device=device, ring=ring) for device, ring in drafts.items())

    def gather(
        self, members: Iterable[str], drafted: tuple[Draft, ...], said: Mapping[str, Said]
    ) -> tuple[RingEvidence, ...]:
        """The evidence of every ring, in order. `said` has the latest report of those that sent one."""
        drafts = {entry.device: entry.ring for entry in drafted}
        rings: list[Tally[Standing]] = [Tally() for _ in self._policy.rings]
        for member in members:
            # A draft of an earlier policy may name a ring that is gone.
            ring = min(self.ring_of(member, drafts), len(rings) - 1)
            rings[ring][standing(said.get(member))] += 1
        return tuple(
            RingEvidence(
                members=found.total() - found[Standing.FORGIVEN],
                committed=found[Standing.COMMITTED],
                failed=found[Standing.FAILED],
                pending=found[Standing.PENDING],
                forgiven=found[Standing.FORGIVEN],
            )
            for found in rings
        )

    def _still_valid(self, members: Collection[str], already: tuple[Draft, ...]) -> dict[str, int]:
        rings, present = self._policy.rings, set(members) - self._pinned
        kept: dict[str, int] = {}
        for entry in already:
            if entry.device in present and entry.ring < len(rings):
                taken = sum(1 for ring in kept.values() if ring == entry.ring)
                if taken < rings[entry.ring].at_least:
                    kept[entry.device] = entry.ring
        return kept

    def _candidates(self, index: int, members: Iterable[str], drafts: Mapping[str, int], count: int) -> list[str]:
        if count <= 0:
            return []
        free = (
            member
            for member in members
            if member not in drafts and member not in self._pinned and self._rings[member] > index
        )
        return nsmallest(count, free, key=lambda member: (ring_point(member), member))
