# SPDX-License-Identifier: Apache-2.0
"""Bytes find their way: about one copy from the origin for a site, whoever dies, lies, or is silent."""

from functools import reduce
from operator import sub
from typing import Any

import pytest

from p2pd.decisions.ambassadors import Timing
from p2pd.decisions.silence import CHECK_SECONDS, LEAST_PATIENCE, MUTE_SECONDS
from p2pd.piece_set import PieceSet
from signing.reasons import Reason
from signing.report import InstallState
from tests.fakes.fake_origin import Fault
from tests.simulator.administrator import Release
from tests.simulator.endpoint import SimulatedEndpoint
from tests.simulator.hostile_peer import mute_peer
from tests.simulator.world import World

GRACE_SECONDS = 4.0  # for discovery to settle, and for the LAN
SEVERAL_REQUESTS: dict[str, Any] = {"pieces": 72, "piece_bytes": 2**18}  # 18 MiB: three range requests


def seconds_to_stage(endpoint: SimulatedEndpoint, version: str) -> float:
    history = endpoint.journal
    return history.time_of(version, InstallState.STAGED) - history.time_of(version, InstallState.FETCHING)


async def test_the_living_divide_the_pieces_of_an_ambassador_that_dies(world: World) -> None:
    world.open_all_rings()
    await world.enrol(5)
    world.origin.bytes_per_second = 200_000
    release = world.release("1.0", pieces=120)
    first, second, *others = world.ranked(release)
    await world.until(lambda: world.origin.sent[first.device] > release.size / 10)
    first.kill()
    died_at = world.unix()
    await world.all_committed(release, [second, *others])
    staged_at = max(living.journal.time_of("1.0", InstallState.STAGED) for living in (second, *others))
    assert staged_at - died_at <= release.size / 200_000 + Timing.stall + GRACE_SECONDS
    assert world.copies(release) <= 1.1
    await first.start()
    await world.all_committed(release)
    assert world.copies(release) <= 1.1, "what it had on disk was not fetched again"


async def test_the_others_bring_what_a_silent_ambassador_does_not(world: World) -> None:
    """They lose patience once, not before each of its pieces."""
    world.open_all_rings()
    await world.enrol(3)
    release = world.release("1.0", **SEVERAL_REQUESTS)
    first, second, third = world.ranked(release)
    world.payload_uplink.cut(first.device)  # alive on the LAN, and of no use
    await world.all_committed(release)
    download_seconds = release.size / world.origin.bytes_per_second
    assert seconds_to_stage(second, "1.0") <= Timing.stall + download_seconds + GRACE_SECONDS
    assert world.copies(release) <= 1.1
    assert set(world.origin.sent) <= {second.device, third.device}


async def test_what_an_ambassador_that_hangs_owes_and_holds_costs_seconds(world: World) -> None:
    """Its connections live on, and it is the only one that has some pieces; no stall has to pass for either."""
    world.open_all_rings()
    await world.enrol(5)
    world.origin.link_bytes_per_second = 200_000
    release = world.release("1.0", pieces=240)
    first, *others = world.ranked(release)
    await world.until(lambda: world.origin.sent[first.device] > release.size / 10)
    first.swarm.is_mute = True
    await world.until(lambda: bool(only_with(first, others, release)))
    world.hang(first)
    hung_at, left = world.unix(), release.size - world.origin.sent.total()
    await world.until(lambda: all(InstallState.STAGED in living.journal.states("1.0") for living in others))
    lost = MUTE_SECONDS + CHECK_SECONDS + 2 * LEAST_PATIENCE
    assert world.unix() - hung_at <= left / 200_000 + lost
    assert world.copies(release) <= 1.1


def only_with(one: SimulatedEndpoint, others: list[SimulatedEndpoint], release: Release) -> PieceSet:
    held, *elsewhere = (endpoint.swarm.transfers[release.info_hash].pieces() for endpoint in (one, *others))
    return reduce(sub, elsewhere, held)


async def test_a_late_joiner_takes_everything_from_the_lan(world: World) -> None:
    await world.enrol(3)
    release = world.release("1.0")
    await world.all_committed(release)
    before = world.origin.sent.copy()
    (late,) = await world.enrol(1)
    await world.all_committed(release)
    assert world.origin.sent == before
    attempt = late.attempt
    assert attempt is not None
    assert (attempt.bytes_lan, attempt.bytes_origin) == (release.size, 0)


async def test_a_peer_that_offers_everything_and_sends_nothing_costs_seconds(world: World) -> None:
    """Not seconds for each request to the origin."""
    world.open_all_rings()
    victim, hostile = await world.enrol(2)
    hostile.kill()
    release = world.release("1.0", **SEVERAL_REQUESTS)
    async with mute_peer(world, hostile, release):
        await world.all_committed(release, [victim])
    download_seconds = release.size / world.origin.bytes_per_second
    patience = MUTE_SECONDS + CHECK_SECONDS
    assert MUTE_SECONDS <= seconds_to_stage(victim, "1.0") <= patience + download_seconds + GRACE_SECONDS
    assert world.copies(release) <= 1.1


@pytest.mark.parametrize("fault", Fault)
async def test_an_origin_with_a_fault_is_asked_again_until_it_is_well(world: World, fault: Fault) -> None:
    world.open_all_rings()
    endpoints = await world.enrol(2)
    world.origin.fault = fault
    release = world.release("1.0")
    await world.pass_time(120)
    assert not any(InstallState.STAGED in endpoint.journal.states("1.0") for endpoint in endpoints)
    first, _ = world.ranked(release)
    expected = Reason.ORIGIN_UNREACHABLE if fault is Fault.SILENT else Reason.ORIGIN_REFUSED
    assert await first.why(release) in (expected, Reason.TOOK_OVER_STALLED)
    world.origin.fault = None
    world.origin.sent.clear()
    await world.all_committed(release)
    assert world.copies(release) <= 1.1


async def test_a_transfer_that_breaks_is_begun_anew_and_loses_no_count(world: World) -> None:
    await world.enrol(2)
    release = world.release("1.0", pieces=200)
    await world.all_committed(release)
    (late,) = await world.enrol(1)
    await world.until(lambda: late.received_from_lan(release) > release.size / 3)
    assert late.received_from_lan(release) < release.size
    late.swarm.break_transfers()
    await world.all_committed(release)
    attempt = late.attempt
    assert attempt is not None
    assert (attempt.bytes_lan, attempt.bytes_origin) == (release.size, 0)
