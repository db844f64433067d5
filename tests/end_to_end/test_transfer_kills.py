# SPDX-License-Identifier: Apache-2.0
"""kill -9 in mid-transfer: of the endpoint that fetches from the origin, and of one that takes pieces from it.

Another takes over, the others finish, and whoever comes back goes on with the pieces that lie on its disk.
"""

import math
from collections.abc import Sequence
from typing import Any

from bench.lab.administrator import PUBLIC_PORT
from signing.policy import Ring
from tests.end_to_end.endpoint import Endpoint
from tests.end_to_end.fleet import PRODUCT, FleetUnderTest, acquainted, start_all
from tests.end_to_end.template import SEGMENTS, Release
from tests.end_to_end.waiting import eventually
from tests.end_to_end.wan import open_wan

WAN_PORT = PUBLIC_PORT + 1000
BYTES_PER_SECOND = 700_000  # six seconds for the payload: enough of a middle to be killed in
SPARE_PIECES = 2
FROM_ORIGIN, FROM_ANYWHERE = ("bytes_origin",), ("bytes_origin", "bytes_lan")


async def test_kills_in_mid_transfer(fleet: FleetUnderTest) -> None:
    fleet.use_rings(Ring(name="everyone"))
    await fleet.start_coordinator()
    async with open_wan(fleet.address, WAN_PORT, server=(fleet.address, PUBLIC_PORT)) as wan:
        endpoints = await fleet.enrolled("desk-1", "desk-2", "desk-3", url=f"https://{fleet.address}:{WAN_PORT}")
        for endpoint in endpoints:
            endpoint.configure(settle_seconds=5, stall_seconds=2)
        await start_all(*endpoints)
        await acquainted(*endpoints)
        wan.bytes_per_second = BYTES_PER_SECOND
        release = await fleet.release("1.0", 1)

        ambassador = await first_with(endpoints, FROM_ORIGIN, 0.25 * release.size)
        await ambassador.kill()
        ambassador_misses = missing_bytes(ambassador, release)
        survivors = [endpoint for endpoint in endpoints if endpoint is not ambassador]
        successor = await first_with(survivors, FROM_ORIGIN, 1)
        (leech,) = [endpoint for endpoint in survivors if endpoint is not successor]
        await first_with([leech], FROM_ANYWHERE, 0.4 * release.size)
        await leech.kill()
        leech_misses = missing_bytes(leech, release)
        wan.bytes_per_second = math.inf
        await successor.reaches(release, "committed")
        assert successor.in_use(release) == release.files
        await start_all(leech, ambassador)
        await it_resumed(leech, release, leech_misses)
        await it_resumed(ambassador, release, ambassador_misses)
    await fleet.rollout_is(release, state="complete")


async def first_with(endpoints: Sequence[Endpoint], sources: Sequence[str], least: float) -> Endpoint:
    """The first endpoint that has so many bytes from `sources`, and has not everything yet."""

    def received(attempt: dict[str, Any]) -> int:
        return sum(attempt.get(source, 0) for source in sources)

    async def look() -> list[dict[str, Any]]:
        return [await endpoint.attempt(PRODUCT) for endpoint in endpoints]

    def reached(attempts: list[dict[str, Any]]) -> bool:
        return any(received(attempt) >= least for attempt in attempts)

    attempts = await eventually(look, reached, f"{least:.0f} bytes of {' and '.join(sources)}")
    index, attempt = max(enumerate(attempts), key=lambda pair: received(pair[1]))
    assert attempt["state"] == "fetching", "too late: this is no mid-transfer"
    return endpoints[index]


def missing_bytes(endpoint: Endpoint, release: Release) -> int:
    """What of the transport is not on the disk of a killed endpoint, counted in whole pieces."""
    whole = release.transport.read_bytes()
    on_disk = (endpoint.state / "payloads" / release.sha256 / SEGMENTS[0]).read_bytes()
    pieces = range(0, release.size, release.piece_bytes)
    missing = [at for at in pieces if on_disk[at : at + release.piece_bytes] != whole[at : at + release.piece_bytes]]
    assert 0 < len(missing) < len(pieces), "killed too early or too late"
    return sum(min(release.piece_bytes, release.size - at) for at in missing)


async def it_resumed(endpoint: Endpoint, release: Release, missing: int) -> None:
    """It fetched what it missed, and next to nothing twice."""
    seen = await endpoint.reaches(release, "committed")
    received = seen["bytes_lan"] + seen["bytes_origin"]
    assert missing <= received < missing + SPARE_PIECES * release.piece_bytes
    assert endpoint.in_use(release) == release.files
