# SPDX-License-Identifier: Apache-2.0
"""A new release travels as what has changed; and where that is of no use, the policy says what happens."""

from pathlib import Path

import pytest

from seeds.records import RolloutState
from signing.policy import DeltaFallback, Gate, Ring
from signing.reasons import Reason
from signing.report import InstallState
from tests.scenarios.deltas import delta_of, file_of, handed_over, received, set_fallback
from tests.scenarios.good_way import GOOD_WAY
from tests.simulator.world import World


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


async def test_who_has_the_release_before_takes_the_delta_and_a_newcomer_takes_it_all(world: World) -> None:
    world.open_all_rings()
    endpoints = await world.enrol(3)
    first = world.release_software("1.0")
    await world.all_committed(first)
    sent_before = sum(world.origin.sent.values())

    second = world.release_software("1.1", first)
    delta = delta_of(second, first)
    assert delta.content.size < second.size / 5
    await world.all_committed(second)
    for endpoint in endpoints:
        assert endpoint.journal.states("1.1") == GOOD_WAY
        assert received(endpoint) == delta.content.size
        assert handed_over(endpoint) == second.manifest.payload.sha256
    assert sum(world.origin.sent.values()) - sent_before <= 1.1 * delta.content.size, "one copy for the site"

    (late,) = await world.enrol(1)
    await world.all_committed(second)
    assert received(late) == second.size
    assert handed_over(late) == second.transport_sha256
    reports = await world.told(late, InstallState.COMMITTED)
    assert reports[-1].bytes_lan + reports[-1].bytes_origin == second.size


async def test_what_a_delta_made_is_what_the_next_one_builds_upon(world: World) -> None:
    world.open_all_rings()
    (endpoint,) = await world.enrol(1)
    first = world.release_software("1.0")
    await world.completed(first)
    second = world.release_software("1.1", first)
    await world.completed(second)
    endpoint.kill()
    third = world.release_software("1.2", second, first)
    await endpoint.start()
    await world.all_committed(third)
    assert received(endpoint) == delta_of(third, second).content.size
    assert [work.base.is_compressed for work in endpoint.rebuilder.done] == [True, False]


async def test_a_daemon_that_died_remembers_what_it_can_build_upon(world: World) -> None:
    """Even when the release before is offered to nobody any more."""
    world.set_policy(rings=(Ring(name="everyone", gate=Gate(success_percent=50)),))
    one, other = await world.enrol(2)
    first = world.release_software("1.0")
    await world.all_committed(first)
    world.origin.bytes_per_second = 5_000
    second = world.release_software("1.1", first)
    await world.until(lambda: other.stands(second, InstallState.FETCHING))
    other.kill()
    await world.all_committed(second, [one])
    await world.until(lambda: world.coordinator.rollout_of(second.sha256).state is RolloutState.COMPLETE)
    await other.start()
    await world.all_committed(second)
    assert received(other) == delta_of(second, first).content.size
    assert handed_over(other) == second.manifest.payload.sha256


@pytest.mark.parametrize("fallback", [DeltaFallback.ALWAYS, DeltaFallback.BUDGET])
async def test_a_base_with_a_flipped_bit_costs_the_full_payload_where_the_policy_allows(
    world: World, fallback: DeltaFallback
) -> None:
    world.open_all_rings()
    (endpoint,) = await world.enrol(1)
    first = world.release_software("1.0")
    await world.completed(first)
    spoil(file_of(endpoint, first.transport_sha256, first))
    set_fallback(world, fallback, bytes_allowed=first.size * 2)
    second = world.release_software("1.1", first)
    await world.all_committed(second)
    assert endpoint.journal.states("1.1") == GOOD_WAY, "a delta that is of no use is no failure"
    assert received(endpoint) == delta_of(second, first).content.size + second.size
    assert handed_over(endpoint) == second.transport_sha256


@pytest.mark.parametrize(
    ("fallback", "reason"),
    [
        (DeltaFallback.NEVER, Reason.DELTA_FALLBACK_FORBIDDEN),
        (DeltaFallback.BUDGET, Reason.DELTA_FALLBACK_OVER_BUDGET),
    ],
)
async def test_where_the_policy_does_not_allow_it_the_release_waits_and_says_why(
    world: World, fallback: DeltaFallback, reason: Reason
) -> None:
    world.open_all_rings()
    (endpoint,) = await world.enrol(1)
    first = world.release_software("1.0")
    await world.completed(first)
    spoil(file_of(endpoint, first.transport_sha256, first))
    set_fallback(world, fallback, bytes_allowed=1_000)
    second = world.release_software("1.1", first)
    await world.until(lambda: endpoint.attempt is not None and endpoint.attempt.reason is reason)
    await world.pass_time(600)
    assert endpoint.stands(second, InstallState.FETCHING), "it waits; it has not failed"
    assert await endpoint.why(second) is reason
    assert endpoint.version == "1.0"
    reports = [r for r in world.coordinator.reports_of(endpoint.device) if r.version == "1.1"]
    assert {r.state for r in reports} == {InstallState.FETCHING}
    assert [r.reason for r in reports if r.reason is not None] == [reason]
    assert sum(world.origin.sent.values()) == first.size + delta_of(second, first).content.size

    set_fallback(world, DeltaFallback.ALWAYS)
    await world.all_committed(second)
    assert handed_over(endpoint) == second.transport_sha256


async def test_a_newer_release_ends_the_waiting(world: World) -> None:
    world.open_all_rings()
    (endpoint,) = await world.enrol(1)
    first = world.release_software("1.0")
    await world.completed(first)
    spoil(file_of(endpoint, first.transport_sha256, first))
    set_fallback(world, DeltaFallback.NEVER)
    second = world.release_software("1.1", first)
    await world.until(lambda: endpoint.attempt is not None and endpoint.attempt.reason is not None)
    third = world.release_software("1.2")  # which has no deltas
    await world.all_committed(third)
    assert endpoint.journal.states("1.1")[-1] is InstallState.FAILED
    assert endpoint.journal.states("1.1").count(InstallState.STAGED) == 0
    assert second.sha256 not in endpoint.agent.releases.records()[second.manifest.product].quarantined


async def test_a_base_that_is_gone_is_a_fallback_too_and_fetches_no_delta(world: World) -> None:
    world.open_all_rings()
    (endpoint,) = await world.enrol(1)
    first = world.release_software("1.0")
    await world.completed(first)
    endpoint.kill()
    file_of(endpoint, first.transport_sha256, first).unlink()
    await endpoint.start()
    second = world.release_software("1.1", first)
    await world.all_committed(second)
    assert received(endpoint) == second.size


async def test_bytes_that_came_by_another_transport_before_are_not_kept_half(world: World) -> None:
    """Else they would be fetched to their end only to be handed on."""
    world.open_all_rings()
    (endpoint,) = await world.enrol(1)
    first = world.release_software("1.0")
    await world.completed(first)
    second = world.release_software("1.1", first)
    half = file_of(endpoint, second.transport_sha256, second)
    half.parent.mkdir()
    half.write_bytes(bytes(second.size))
    await world.all_committed(second)
    await world.pass_time(120)
    assert not half.exists()
    assert received(endpoint) == delta_of(second, first).content.size
