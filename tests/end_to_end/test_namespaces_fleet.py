# SPDX-License-Identifier: Apache-2.0
"""A coordinator and four endpoints, each on a host of its own on one bridge, and somebody who records the bridge.

The fourth endpoint comes back when the coordinator is dead, so that metadata travels from peer to peer as well.
"""

import json
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from bench.lab.network import Network, build, exec_in, why_not_available
from bench.lab.processes import END_SECONDS, Processes
from bench.lab.topology import SiteSpec, Topology
from signing.policy import Ring
from tests.end_to_end.endpoint import Endpoint
from tests.end_to_end.fleet import FleetUnderTest, acquainted, start_all
from tests.end_to_end.template import LAB_ADDRESS, SEGMENTS, Release, Template
from tests.end_to_end.waiting import WAIT_SECONDS

PROJECT = Path(__file__).parents[2]
PRODUCT, VERSION = "ledgerworks", "31.7.2026"
DEVICES = ("treasury-1", "treasury-2", "treasury-3", "treasury-4")
WINDOW_BYTES, WINDOWS = 16, 300
SEED = 1


@pytest.fixture
def lab() -> Iterator[Network]:
    reason = why_not_available()
    if reason is not None:
        pytest.skip(reason)
    with build(Topology(sites=(SiteSpec(name="lan", hosts=len(DEVICES)),))) as built:
        yield built


@dataclass
class Capture:
    """What passed the bridge; complete once the recording has ended."""

    file: Path

    def contains(self, what: bytes) -> bool:
        return what in self._bytes

    @property
    def size(self) -> int:
        return len(self._bytes)

    def load(self) -> None:
        self._bytes = self.file.read_bytes()


@asynccontextmanager
async def recording(lab: Network, file: Path) -> AsyncIterator[Capture]:
    argv = exec_in(lab.bridge, [sys.executable, "-m", "tests.end_to_end.packet_capture", str(file)])
    process = await trio.lowlevel.open_process(argv, cwd=PROJECT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        with trio.fail_after(WAIT_SECONDS):
            assert await process.stdout.receive_some() == b"ready\n"
        capture = Capture(file)
        yield capture
        process.terminate()
        with trio.fail_after(END_SECONDS):
            told = json.loads(await process.stdout.receive_some())
            await process.wait()
    finally:
        process.kill()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + END_SECONDS):
            await process.wait()
    assert told["lost"] == 0, "a capture with gaps proves nothing"
    await trio.to_thread.run_sync(capture.load)


@pytest.mark.root
async def test_hosts_on_one_bridge(lab: Network, template: Template, tmp_path: Path, processes: Processes) -> None:
    fleet = FleetUnderTest(template, tmp_path, processes, address=LAB_ADDRESS)
    assert lab.origin.address == LAB_ADDRESS
    fleet.use_rings(Ring(name="everyone"))
    async with recording(lab, tmp_path / "capture") as capture:
        await fleet.start_coordinator(prefix=lab.origin.argv([]))
        endpoints = await enrolled_on(lab, fleet)
        await start_all(*endpoints)
        await acquainted(*endpoints)
        *present, absent = endpoints
        await absent.stop()
        release = await fleet.release(VERSION, 1, product=PRODUCT)
        for endpoint in present:
            await endpoint.reaches(release, "committed")
        await fleet.kill_coordinator()
        await absent.start()
        seen = await absent.reaches(release, "committed")
        assert seen["bytes_lan"] >= release.size
    await trio.to_thread.run_sync(the_wire_told_nothing, capture, release)


async def enrolled_on(lab: Network, fleet: FleetUnderTest) -> tuple[Endpoint, ...]:
    token = fleet.token(uses=len(DEVICES)).encode()
    endpoints = tuple(
        fleet.endpoint(name, address=host.address, prefix=host.argv([]))
        for name, host in zip(DEVICES, lab.sites[0].hosts, strict=True)
    )
    async with trio.open_nursery() as nursery:
        for endpoint in endpoints:
            nursery.start_soon(endpoint.enrol, token)
    return endpoints


def the_wire_told_nothing(capture: Capture, release: Release) -> None:
    assert capture.size > len(DEVICES) * release.size, "all of it passed the bridge"
    assert capture.contains(b"\x05_p2pd\x04_tcp"), "what is not hidden is seen"
    transport = release.transport.read_bytes()
    chance = random.Random(SEED)  # noqa: S311 (places for tests)
    for place in (chance.randrange(len(transport) - WINDOW_BYTES) for _ in range(WINDOWS)):
        assert not capture.contains(transport[place : place + WINDOW_BYTES]), f"payload at {place}"
    for name in (PRODUCT, VERSION, *SEGMENTS, *DEVICES):
        assert not capture.contains(name.encode()), name
