# SPDX-License-Identifier: Apache-2.0
"""A release, its successor as a delta, and the one after that: real torrents, processes, and p2pd-install.

One story, for each part begins where the one before it ended: the base is first what travelled, then what a delta made.
"""

import random
from functools import partial
from pathlib import Path

import trio

from seeds.commands.delta_options import wanted_bases
from seeds.commands.publication import shelf_of
from seeds.services.building import PatchWish, build_patch
from seeds.services.deltas import add_deltas
from seeds.services.publishing import BuiltPatch
from signing.manifest import HealthPlan, Manifest
from signing.policy import Ring
from tests.end_to_end.endpoint import Endpoint
from tests.end_to_end.fleet import FleetUnderTest, start_all
from tests.end_to_end.template import INTERVAL_SECONDS, PROBATION_SECONDS, SEGMENTS
from tests.end_to_end.waiting import eventually

PRODUCT, FILES, FILE_BYTES = "app", 16, 100_000


async def test_the_successors_of_a_release_travel_as_deltas(fleet: FleetUnderTest, tmp_path: Path) -> None:
    fleet.use_rings(Ring(name="everyone"))
    await fleet.start_coordinator()
    endpoints = await fleet.enrolled("desk-1", "desk-2")
    await start_all(*endpoints)

    first = await release(fleet, tmp_path, 1)
    await committed(endpoints, first)
    before = await fleet.served_bytes()

    second = await release(fleet, tmp_path, 2)
    await committed(endpoints, second)
    for endpoint in endpoints:
        assert in_use(endpoint) == files(2)
    travelled = await fleet.served_bytes() - before
    delta = next(delta for delta in second.deltas if delta.base == first.payload)
    assert delta.content.size <= travelled <= len(endpoints) * delta.content.size
    assert travelled < second.transports[0].content.size / 10

    # Killed and started again, it builds upon what the delta made; the other finds its own rotten, and falls back.
    whole, rotten = endpoints
    for endpoint in endpoints:
        await endpoint.kill()
    payload = rotten.state / "payloads" / second.payload.sha256
    (path,) = payload.iterdir()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    await start_all(*endpoints)

    third = await release(fleet, tmp_path, 3)
    await committed(endpoints, third)
    for endpoint in endpoints:
        assert in_use(endpoint) == files(3)
    largest = max(delta.content.size for delta in third.deltas)
    assert received(await whole.attempt(PRODUCT)) <= largest
    assert received(await rotten.attempt(PRODUCT)) >= third.transports[0].content.size
    assert any(line.get("why", "").count("not the payload") for line in rotten.logged())


def files(version: int) -> dict[str, bytes]:
    """Nothing that compresses; one file in sixteen changes from one version to the next."""
    found = {
        f"part-{number:02}": random.Random(f"{number} {0 if number else version}").randbytes(FILE_BYTES)  # noqa: S311
        for number in range(FILES)
    }
    return found | {"version": str(version).encode()}


async def release(fleet: FleetUnderTest, directory: Path, version: int) -> Manifest:
    """Build it with deltas from what is published, sign and publish."""
    source, into = directory / f"source-{version}", directory / "built"
    source.mkdir()
    for name, data in files(version).items():
        (source / name).write_bytes(data)
    health = HealthPlan(probation_seconds=PROBATION_SECONDS, interval_seconds=INTERVAL_SECONDS)
    wish = PatchWish(product=PRODUCT, version=f"{version}.0", release_counter=version, health=health)
    authorities = {segment: fleet.fleet.read_segment_certificate(segment) for segment in SEGMENTS}
    bases = wanted_bases(fleet.repository, PRODUCT, (), newest=2)

    def build() -> BuiltPatch:
        built, _ = build_patch(wish, source, into=into, segment_authorities=authorities)
        find = shelf_of(fleet.fleet).find
        built, outcomes = add_deltas(built, bases, find_transport=find, into=into, segment_authorities=authorities)
        assert [outcome.size is not None for outcome in outcomes] == [True] * min(2, version - 1), outcomes
        return built

    built = await trio.to_thread.run_sync(build)
    await fleet.publish(built)
    return built.manifest


async def committed(endpoints: tuple[Endpoint, ...], manifest: Manifest) -> None:
    """Wait until all have it."""
    wanted = {"version": manifest.version, "state": "committed", "installed": manifest.version}
    for endpoint in endpoints:
        await eventually(
            partial(endpoint.attempt, PRODUCT), lambda now: now.items() >= wanted.items(), f"{endpoint.name}: {wanted}"
        )


def received(attempt: dict[str, int]) -> int:
    """Bytes of the newest attempt, from wherever."""
    return attempt["bytes_lan"] + attempt["bytes_origin"] + attempt["bytes_web"]


def in_use(endpoint: Endpoint) -> dict[str, bytes]:
    """All files in use."""
    root = endpoint.directory / "opt" / "products" / PRODUCT / "current"
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
