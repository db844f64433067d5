# SPDX-License-Identifier: Apache-2.0
"""The life of a fleet: a release for all, a broken one that stops at the canary, its mended successor, a recall.

One story in one fleet of three endpoints, for each part begins where the one before it ended.
"""

import json
from pathlib import Path
from typing import Any

import trio

from signing.policy import Gate, Ring
from signing.reasons import Reason
from tests.end_to_end.endpoint import Endpoint, read_log
from tests.end_to_end.fleet import PRODUCT, FleetUnderTest, start_all
from tests.end_to_end.template import Release

RINGS = (Ring(name="canary", devices=("canary",), gate=Gate(soak_seconds=0.3)), Ring(name="everyone"))
COPIES = 1.1  # of the payload, that may leave the origin for all three

AGENT_METRICS = {
    ("p2pd_bytes_received_total", ("lan",)),
    ("p2pd_bytes_received_total", ("origin",)),
    ("p2pd_bytes_received_total", ("web",)),
    ("p2pd_transfer_duration_seconds_count", ()),
    ("p2pd_install_duration_seconds_count", ()),
    ("p2pd_release_state", (PRODUCT, "committed")),
    ("p2pd_metadata_expiry_timestamp_seconds", ("timestamp",)),
    ("p2pd_peers", ()),
    ("p2pd_spooled_reports", ()),
}
COORDINATOR_METRICS = {
    ("seeds_bytes_served_total", ("payloads",)),
    ("seeds_requests_total", ("payloads", "206")),
    ("seeds_reports_total", ("accepted",)),
    ("seeds_metadata_expiry_seconds", ("timestamp",)),
    ("seeds_rollout_state", (PRODUCT, "complete")),
    ("seeds_rollout_open_rings", (PRODUCT,)),
    ("seeds_devices", ("accounting",)),
    ("seeds_long_polls", ()),
}


async def test_the_life_of_a_fleet(fleet: FleetUnderTest) -> None:
    fleet.use_rings(*RINGS)
    await fleet.start_coordinator()
    canary, *others = await fleet.enrolled("canary", "desk-1", "desk-2")
    await start_all(canary, *others)

    first = await a_release_reaches_all(fleet, "1.0", 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(agents_tell_the_truth, fleet, first)
        nursery.start_soon(the_coordinator_tells_the_truth, fleet, first)
        nursery.start_soon(metrics_keep_their_names, fleet)

    broken = await fleet.release("1.1", 2, healthy=False, size=1 << 20)
    await a_broken_release_stops_at_the_canary(fleet, broken, first)
    mended = await a_release_reaches_all(fleet, "1.2", 3, size=1 << 20)
    await fleet.withdraw(mended, "it eats invoices")
    await a_recall_takes_all_back(fleet, mended, first)

    no_secret_is_told(fleet)
    await everybody_stops_when_asked(fleet)
    canary_went_first(fleet, first)
    canary_went_first(fleet, mended)
    for other in others:
        assert broken.version not in {line.get("version") for line in other.logged()}


async def a_release_reaches_all(fleet: FleetUnderTest, version: str, counter: int, **about: Any) -> Release:
    """Healthy after probation on every endpoint, and once out of the origin."""
    served_before = await fleet.served_bytes()
    release = await fleet.release(version, counter, **about)
    for endpoint in fleet.endpoints:
        seen = await endpoint.reaches(release, "committed", installed=release.version, reason=None)
        assert seen["bytes_lan"] + seen["bytes_origin"] >= release.size
        assert endpoint.in_use(release) == release.files
    await fleet.rollout_is(release, state="complete", open_rings=len(RINGS))
    assert release.size <= await fleet.served_bytes() - served_before <= COPIES * release.size
    return release


async def a_broken_release_stops_at_the_canary(fleet: FleetUnderTest, broken: Release, before: Release) -> None:
    canary, *others = fleet.endpoints
    await canary.reaches(broken, "rolled_back", installed=before.version, reason=Reason.HEALTH_CHECK_FAILED)
    assert canary.in_use(before) == before.files
    await fleet.rollout_is(broken, state="halted", open_rings=1, reason=Reason.ERROR_GATE)
    for other in others:
        await other.says_why(broken, Reason.ROLLOUT_HALTED)
        seen = await other.attempt(PRODUCT)
        assert (seen["version"], seen["installed"]) == (before.version, before.version)


async def a_recall_takes_all_back(fleet: FleetUnderTest, recalled: Release, before: Release) -> None:
    for endpoint in fleet.endpoints:
        await endpoint.reaches(recalled, "rolled_back", installed=before.version, reason=Reason.RECALLED)
        assert endpoint.in_use(before) == before.files
    await fleet.rollout_is(recalled, state="withdrawn", reason=Reason.WITHDRAWN)
    done = await fleet.endpoints[0].run("verify", recalled.transport)
    assert done.status == 2
    assert "was withdrawn: it eats invoices" in done.errors


async def agents_tell_the_truth(fleet: FleetUnderTest, release: Release) -> None:
    """`p2pd status`, `peers`, `why` and `verify`, as people run them."""
    async with trio.open_nursery() as nursery:
        for endpoint in fleet.endpoints:
            nursery.start_soon(an_agent_knows_itself, fleet, endpoint, release)
        nursery.start_soon(files_are_told_apart, fleet.endpoints[1], release, fleet.directory / "foreign")


async def an_agent_knows_itself(fleet: FleetUnderTest, endpoint: Endpoint, release: Release) -> None:
    await endpoint.sees_peers(2, shares=1)
    await endpoint.says_why(release, Reason.ALREADY_INSTALLED)
    status = await endpoint.told("status")
    assert (status["device"], status["segment"], status["site"]) == (endpoint.name, "accounting", "main")
    assert (status["peers"], status["metadata"]["problem"]) == (2, None)
    (product,) = status["products"]
    assert (product["product"], product["version"], product["previous_version"]) == (PRODUCT, release.version, None)
    others = {other.name: other.address for other in fleet.endpoints if other is not endpoint}
    peers = (await endpoint.told("peers"))["peers"]
    assert {peer["device"]: peer["address"] for peer in peers} == others
    assert {peer["shares"] for peer in peers} == {1}
    (why,) = (await endpoint.told("why", PRODUCT))["releases"]
    assert (why["version"], why["state"], why["reason"]) == (release.version, "committed", Reason.ALREADY_INSTALLED)


async def files_are_told_apart(endpoint: Endpoint, release: Release, foreign: Path) -> None:
    told = await endpoint.told("verify", release.transport)
    assert (told["match"], told["product"], told["version"]) == ("transport", PRODUCT, release.version)
    await trio.Path(foreign).write_bytes(release.transport.read_bytes() + b"!")
    done = await endpoint.run("verify", foreign)
    assert (done.status, done.output) == (2, "")
    assert "belongs to no release" in done.errors


async def the_coordinator_tells_the_truth(fleet: FleetUnderTest, release: Release) -> None:
    done = await fleet.p2pctl("status", "--json")
    assert done.status == 0, done.errors
    facts: dict[str, Any] = json.loads(done.output)
    (rollout,) = facts["rollouts"]
    assert (rollout["version"], rollout["state"], rollout["devices"]) == (release.version, "complete", {"committed": 3})
    assert {device["device"] for device in facts["devices"]} == {endpoint.name for endpoint in fleet.endpoints}
    for device in facts["devices"]:
        (told,) = device["releases"]
        assert (told["product"], told["version"], told["state"]) == (PRODUCT, release.version, "committed")
    sources = [(r["bytes_lan"], r["bytes_origin"]) for device in facts["devices"] for r in device["releases"]]
    assert sum(origin for _, origin in sources) == await fleet.served_bytes()
    assert sum(lan for lan, _ in sources) >= 2 * release.size * 0.9
    assert all(role["hours_left"] > 0 for role in facts["metadata"].values())


async def metrics_keep_their_names(fleet: FleetUnderTest) -> None:
    assert (await fleet.metrics()).keys() >= COORDINATOR_METRICS
    for endpoint in fleet.endpoints:
        metrics = await endpoint.metrics()
        assert metrics.keys() >= AGENT_METRICS
        seen = await endpoint.attempt(PRODUCT)
        for source in ("lan", "origin", "web"):
            assert metrics["p2pd_bytes_received_total", (source,)] == seen[f"bytes_{source}"]
        assert metrics["p2pd_release_state", (PRODUCT, "committed")] == 1


def no_secret_is_told(fleet: FleetUnderTest) -> None:
    """Neither in a log nor in an argument that any user of the machine can read."""
    secrets = [secret.encode() for secret in fleet.secrets]
    assert len(secrets) == 4
    for daemon in fleet.processes.daemons:
        argv = Path(f"/proc/{daemon.pid}/cmdline").read_bytes()
        assert argv.split(b"\0")[1:]
        for secret in secrets:
            assert secret not in argv
            assert secret not in daemon.log.read_bytes()


async def everybody_stops_when_asked(fleet: FleetUnderTest) -> None:
    """SIGTERM, and all end well; what they logged was JSON throughout."""
    async with trio.open_nursery() as nursery:
        for daemon in fleet.processes.daemons:
            nursery.start_soon(daemon.stop)
    for daemon in fleet.processes.daemons:
        assert not [line for line in read_log(daemon.log) if line["level"] in ("error", "critical")]


def canary_went_first(fleet: FleetUnderTest, release: Release) -> None:
    """Nobody began before the canary had proved the release."""
    canary, *others = (
        {line["state"]: line["time"] for line in states(endpoint, release)} for endpoint in fleet.endpoints
    )
    for other in others:
        assert canary["committed"] < other["fetching"]


def states(endpoint: Endpoint, release: Release) -> list[dict[str, Any]]:
    """What the daemon logged of a release, in order."""
    return [
        line for line in endpoint.logged() if line["event"] == "release state" and line["version"] == release.version
    ]
