# SPDX-License-Identifier: Apache-2.0
"""What endpoints see of their site's links comes back to all of them, signed, and decides how many fetch."""

import pytest

from p2pd.decisions.ambassadors import ambassador_count
from signing.codec import decode
from signing.report import InstallState
from signing.schedule import Schedule
from tests.simulator.endpoint import SimulatedEndpoint
from tests.simulator.world import SITE, World

PIECE_BYTES = 2**16


def published(world: World) -> Schedule:
    data = world.coordinator.repository.read_target("schedules", f"schedules/{SITE}")
    return decode(Schedule, data or b"", where="schedule")


def knows_rates(endpoint: SimulatedEndpoint) -> bool:
    trusted = endpoint.agent.board.trusted.value
    return trusted is not None and trusted.schedule is not None and trusted.schedule.rates is not None


async def test_the_rates_of_a_site_are_measured_by_one_release_and_used_for_the_next(world: World) -> None:
    world.open_all_rings()
    endpoints = await world.enrol(4)
    world.origin.bytes_per_second = 100_000  # each request; an ambassador makes two and more
    first = world.release("1.0", pieces=100, piece_bytes=PIECE_BYTES)
    await world.completed(first)
    assert published(world).rates is not None
    for endpoint in endpoints:
        reports = await world.told(endpoint, InstallState.COMMITTED)
        (measured,) = [report.measured for report in reports if report.measured is not None]
        seconds = endpoint.journal.time_of("1.0", InstallState.STAGED) - endpoint.journal.time_of(
            "1.0", InstallState.FETCHING
        )
        assert measured.wan_bytes_per_s == pytest.approx(first.size / seconds, rel=0.25)
        assert measured.lan_in_bytes_per_s is not None
    await world.until(lambda: all(knows_rates(endpoint) for endpoint in endpoints))
    world.origin.sent.clear()
    second = world.release("2.0", pieces=100, piece_bytes=PIECE_BYTES)
    await world.all_committed(second)
    count = ambassador_count(live=4, piece_count=100, piece_bytes=PIECE_BYTES, rates=published(world).rates)
    assert len(world.origin.sent) == count
    assert world.copies(second) <= 1.1
