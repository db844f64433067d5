# SPDX-License-Identifier: Apache-2.0
"""An outage in mid-rollout: the site goes on with what one endpoint knew, and tells everything afterwards.

When the coordinator dies, only the canary has heard that the next ring is open. One endpoint has lost its link to the
origin, another one is switched on when the coordinator is dead: both learn from the canary, and get the payload there.
"""

from functools import partial

from bench.lab.administrator import PUBLIC_PORT
from seeds.adapters.store import Store
from signing.envelope import peek
from signing.policy import Gate, Ring
from signing.report import InstallState, Report
from tests.end_to_end.endpoint import Endpoint
from tests.end_to_end.fleet import FleetUnderTest, acquainted, start_all
from tests.end_to_end.waiting import eventually
from tests.end_to_end.wan import open_wan

WAN_PORT = PUBLIC_PORT + 1000
RINGS = (Ring(name="canary", devices=("canary",), gate=Gate()), Ring(name="everyone"))
WAY = [
    InstallState.FETCHING,
    InstallState.STAGED,
    InstallState.VERIFIED,
    InstallState.RESERVED,
    InstallState.INSTALLING,
    InstallState.PROBATION,
    InstallState.COMMITTED,
]


async def test_an_outage_in_mid_rollout(fleet: FleetUnderTest) -> None:
    fleet.use_rings(*RINGS)
    await fleet.start_coordinator()
    async with open_wan(fleet.address, WAN_PORT, server=(fleet.address, PUBLIC_PORT)) as wan:
        (canary,) = await fleet.enrolled("canary")
        remote, sleeper = await fleet.enrolled("remote", "sleeper", url=f"https://{fleet.address}:{WAN_PORT}")
        await start_all(canary, remote, sleeper)
        await acquainted(canary, remote, sleeper)
        await sleeper.stop()
        wan.cut()

        release = await fleet.release("1.0", 1)
        await canary.reaches(release, "committed")
        await fleet.rollout_is(release, open_rings=2)
        await knows_all_that_is_published(canary, fleet)
        await fleet.kill_coordinator()

        await sleeper.start()
        for endpoint in (remote, sleeper):
            seen = await endpoint.reaches(release, "committed")
            assert (seen["bytes_origin"], seen["bytes_web"]) == (0, 0)
            assert seen["bytes_lan"] >= release.size
            await knows_all_that_is_published(endpoint, fleet)
            await reports_wait(endpoint)

        await wan.restore()
        await fleet.start_coordinator()
        await fleet.rollout_is(release, state="complete", open_rings=2)
    for endpoint in (canary, remote, sleeper):
        await eventually(partial(nothing_waits, endpoint), bool, f"{endpoint.name} has told everything")
    everything_was_told_once(fleet)


async def knows_all_that_is_published(endpoint: Endpoint, fleet: FleetUnderTest) -> None:
    published = fleet.repository.timestamp_version()
    await eventually(
        endpoint.status, lambda now: now["metadata"].get("timestamp_version") == published, f"version {published}"
    )


async def reports_wait(endpoint: Endpoint) -> None:
    async def look() -> tuple[float, int]:
        return (await endpoint.metrics())["p2pd_spooled_reports", ()], len(endpoint.spooled())

    await eventually(look, lambda now: min(now) >= 1, f"{endpoint.name} keeps how it ended")


async def nothing_waits(endpoint: Endpoint) -> bool:
    return not endpoint.spooled()


def everything_was_told_once(fleet: FleetUnderTest) -> None:
    """Each device has told how it ended; of the steps before, in order, none twice, and no number is left out."""
    with Store(fleet.fleet.database) as store, store.reading() as transaction:
        for device in transaction.devices():
            (told,) = transaction.releases_of(device.device)
            envelopes = [transaction.envelope(device.device, 1, number + 1) for number in range(told.sequence)]
            states = [peek(Report, envelope, where="report").state for envelope in envelopes if envelope is not None]
            assert len(states) == told.sequence
            assert states == [state for state in WAY if state in states]
            assert states[-1] is InstallState.COMMITTED
            assert transaction.envelope(device.device, 1, told.sequence + 1) is None
