# SPDX-License-Identifier: Apache-2.0
"""A critical patch that comes in the middle of a big low one is there about as soon as if it were alone."""

from typing import Any

import pytest

from signing.manifest import Severity
from signing.reasons import Reason
from signing.report import InstallState
from tests.simulator.administrator import Release
from tests.simulator.endpoint import SimulatedEndpoint
from tests.simulator.world import World

LINK = 1_000_000  # bytes per second, of the whole site
BIG: dict[str, Any] = {"product": "big", "pieces": 120, "piece_bytes": 2**18}  # 31 s of the link
URGENT: dict[str, Any] = {"pieces": 36, "piece_bytes": 2**18, "severity": Severity.CRITICAL}  # 9 s
UNDER_WAY_SECONDS = 2.0  # the requests for the big one that go on: half a MiB each, two of each of two ambassadors
GRACE_SECONDS = 2.0  # for discovery to settle, and for the LAN


def has_staged(world: World, release: Release) -> bool:
    return all(InstallState.STAGED in endpoint.journal.states(release.version) for endpoint in world.endpoints)


def endpoint_fetches(endpoint: SimulatedEndpoint, release: Release) -> bool:
    return endpoint.journal.states(release.version)[-1:] == [InstallState.FETCHING]


def seconds_to_stage(world: World, release: Release) -> float:
    """From the first endpoint that began to the last that has it all."""
    version, journals = release.version, [endpoint.journal for endpoint in world.endpoints]
    began = min(journal.time_of(version, InstallState.FETCHING) for journal in journals)
    return max(journal.time_of(version, InstallState.STAGED) for journal in journals) - began


@pytest.mark.parametrize("count", [1, 4])
async def test_a_critical_patch_in_the_middle_of_a_big_one(world: World, count: int) -> None:
    """Bound: as long as alone, what was under way when it came, and what its weight leaves to the other."""
    world.open_all_rings()
    await world.enrol(count)
    world.origin.link_bytes_per_second = LINK
    alone = world.release("1.0", product="first", **URGENT)
    await world.until(lambda: has_staged(world, alone))
    big = world.release("2.0", severity=Severity.LOW, **BIG)
    await world.until(lambda: world.origin.sent.total() > alone.size + big.size / 4)
    assert await world.endpoints[0].why(big) is not Reason.MORE_SEVERE_FIRST
    urgent = world.release("3.0", product="second", **URGENT)
    await world.until(lambda: all(endpoint_fetches(endpoint, urgent) for endpoint in world.endpoints))
    await world.pass_time(GRACE_SECONDS)
    assert [await endpoint.why(big) for endpoint in world.endpoints] == count * [Reason.MORE_SEVERE_FIRST]
    await world.until(lambda: has_staged(world, urgent))
    assert not has_staged(world, big)
    bound = seconds_to_stage(world, alone) * 65 / 64 + UNDER_WAY_SECONDS + GRACE_SECONDS
    assert seconds_to_stage(world, urgent) <= bound
    await world.until(lambda: has_staged(world, big))
    assert world.origin.sent.total() <= 1.1 * (alone.size + big.size + urgent.size)
