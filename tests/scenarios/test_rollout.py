# SPDX-License-Identifier: Apache-2.0
"""A release goes through the rings: a good one to everybody, a broken one no further than to the canary."""

from p2pd.decisions.ambassadors import ambassador_count
from signing.reasons import Reason
from signing.report import InstallState
from tests.scenarios.good_way import is_good_way
from tests.simulator.world import CANARY_SOAK_SECONDS, World


async def test_a_release_reaches_the_canary_first_and_then_everyone(world: World) -> None:
    endpoints = await world.enrol(6)
    release = world.release("1.0")
    await world.until(lambda: any(endpoint.version for endpoint in endpoints))
    canary = world.canary_of(release)
    others = [endpoint for endpoint in endpoints if endpoint is not canary]
    await world.all_committed(release, [canary])
    committed_at = world.unix()
    assert [await other.why(release) for other in others] == [Reason.RING_NOT_OPEN] * 5
    await world.all_committed(release)
    assert world.unix() - committed_at > CANARY_SOAK_SECONDS
    assert world.copies(release) <= 1.1
    assert set(world.origin.sent) == {canary.device}, "the others took it from the LAN"
    for endpoint in endpoints:
        reports = await world.told(endpoint, InstallState.COMMITTED)
        assert is_good_way([report.state for report in reports])
        assert [report.sequence for report in reports] == list(range(1, len(reports) + 1))
        assert reports[-1].bytes_lan + reports[-1].bytes_origin == release.size
    assert (await canary.ask("status"))["products"][0]["version"] == "1.0"
    assert [await endpoint.why(release) for endpoint in endpoints] == [Reason.ALREADY_INSTALLED] * 6


async def test_ambassadors_share_the_pieces_at_a_site_that_starts_at_once(world: World) -> None:
    """All rings open together here, so that nobody has the release before the others."""
    world.open_all_rings()
    await world.enrol(4)
    release = world.release("1.0")
    await world.all_committed(release)
    assert world.copies(release) <= 1.1
    count = ambassador_count(live=4, piece_count=24, piece_bytes=2**14, rates=None)
    assert 1 < count < 4
    assert set(world.origin.sent) == {endpoint.device for endpoint in world.ranked(release)[:count]}
    assert max(world.origin.sent.values()) < 0.7 * release.size


async def test_a_broken_release_reaches_only_the_canary(world: World) -> None:
    endpoints = await world.enrol(4)
    good = world.release("1.0")
    await world.all_committed(good)
    for endpoint in endpoints:
        endpoint.probe.falls_ill("tzdata", "2.0", after_runs=2)
    broken = world.release("2.0")
    await world.until(lambda: any(endpoint.stands(broken, InstallState.ROLLED_BACK) for endpoint in endpoints))
    canary = world.canary_of(broken)
    others = [endpoint for endpoint in endpoints if endpoint is not canary]
    assert [endpoint.version for endpoint in endpoints] == ["1.0"] * 4
    await world.until(lambda: world.coordinator.rollout_of(broken.sha256).state == "halted")
    await world.pass_time(600)
    assert [await other.why(broken) for other in others] == [Reason.ROLLOUT_HALTED] * 3
    assert await canary.why(broken) is Reason.HEALTH_CHECK_FAILED
    assert canary.probe.runs["tzdata", "2.0"] == 3, "it is in quarantine and was not tried again"
    assert all(other.probe.runs["tzdata", "2.0"] == 0 for other in others)
    assert [endpoint.version for endpoint in endpoints] == ["1.0"] * 4
    assert canary.journal.states("2.0")[-3:] == [
        InstallState.PROBATION,
        InstallState.ROLLING_BACK,
        InstallState.ROLLED_BACK,
    ]


async def test_a_release_that_mends_the_broken_one_goes_out_as_usual(world: World) -> None:
    endpoints = await world.enrol(3)
    for endpoint in endpoints:
        endpoint.probe.falls_ill("tzdata", "1.0")
    broken = world.release("1.0")
    await world.until(lambda: any(endpoint.stands(broken, InstallState.ROLLED_BACK) for endpoint in endpoints))
    mended = world.release("1.1")
    await world.all_committed(mended)
    assert all(other.probe.runs["tzdata", "1.0"] <= 1 for other in endpoints)


async def test_two_products_do_not_wait_for_each_other(world: World) -> None:
    world.open_all_rings()
    endpoints = await world.enrol(3)
    for endpoint in endpoints:
        endpoint.probe.falls_ill("openssl", "3.0")
    good, broken = world.release("1.0"), world.release("3.0", product="openssl")
    await world.all_committed(good)
    await world.until(lambda: world.coordinator.rollout_of(broken.sha256).state == "halted")
    assert {endpoint.installer.version_of("openssl") for endpoint in endpoints} == {None}
    assert [endpoint.version for endpoint in endpoints] == ["1.0"] * 3


async def test_a_newer_release_replaces_one_that_is_still_on_its_way(world: World) -> None:
    endpoints = await world.enrol(3)
    older = world.release("1.0", pieces=2_000)
    await world.until(lambda: any(endpoint.stands(older, InstallState.FETCHING) for endpoint in endpoints))
    newer = world.release("1.1")
    await world.all_committed(newer)
    assert all("1.0" not in endpoint.installer.asked_for for endpoint in endpoints)
