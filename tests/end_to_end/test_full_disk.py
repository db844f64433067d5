# SPDX-License-Identifier: Apache-2.0
"""Disks that are too small: everybody says so, nobody dies of it, and nothing half done is left."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from bench.lab.processes import Processes
from bench.lab.programs import command
from signing.policy import Ring
from signing.reasons import Reason
from tests.end_to_end.fleet import FleetUnderTest, start_all
from tests.end_to_end.small_disk import SmallDisks, open_small_disks, why_not_available
from tests.end_to_end.waiting import eventually

pytestmark = pytest.mark.root
MEGABYTE = 2**20


@pytest.fixture
async def disks(processes: Processes, tmp_path: Path) -> AsyncIterator[SmallDisks]:
    reason = why_not_available()
    if reason is not None:
        pytest.skip(reason)
    async with open_small_disks(processes, tmp_path / "holder.log") as opened:
        yield opened


async def test_endpoints_without_room(fleet: FleetUnderTest, disks: SmallDisks) -> None:
    fleet.use_rings(Ring(name="everyone"))
    await fleet.start_coordinator()
    names = ("no-room-to-fetch", "no-room-to-install", "no-room-at-all")
    endpoints = [fleet.endpoint(name, prefix=disks.prefix) for name in names]
    fetching, installing, stuffed = endpoints
    await disks.mount(installing.directory / "opt", size=2 * MEGABYTE)
    await disks.mount(stuffed.state, size=96 * MEGABYTE)
    token = fleet.token(uses=len(endpoints)).encode()
    for endpoint in endpoints:
        await endpoint.enrol(token)
    await start_all(*endpoints)
    small = await fleet.release("1.0", 1, size=MEGABYTE // 4)
    for endpoint in endpoints:
        await endpoint.reaches(small, "committed")

    await disks.mount(fetching.state / "payloads", size=8 * MEGABYTE)
    filling = disks.seen(stuffed.state) / "filling"
    fill(filling)
    large = await fleet.release("1.1", 2)
    for endpoint in (fetching, installing):
        await endpoint.reaches(large, "failed", reason=Reason.DISK_FULL, installed=small.version)
        await endpoint.says_why(large, Reason.DISK_FULL)
        current = disks.seen(endpoint.current(small))
        assert (current / "version").read_bytes() == small.files["version"]

    def says_so(status: dict[str, Any]) -> bool:
        problem = status["metadata"]["problem"]
        return problem is not None and problem["reason"] == Reason.DISK_FULL

    await eventually(stuffed.status, says_so, f"{stuffed.name} says why it hears nothing new")
    filling.unlink()
    await stuffed.reaches(large, "committed")


def fill(path: Path) -> None:
    """Write until the disk is full to the last byte."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4_096))
    assert shutil.disk_usage(path.parent).free == 0


async def test_an_administrator_without_room(fleet: FleetUnderTest, disks: SmallDisks, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "data").write_bytes(os.urandom(4 * MEGABYTE))
    payloads = fleet.fleet.payloads
    await disks.mount(payloads, size=MEGABYTE)
    argv = command("p2pctl", "patch", "build", "ledger", "1.0", source)
    done = await fleet.processes.run([*disks.prefix, *argv], environment=fleet.environment)
    assert (done.status, len(done.errors.splitlines())) == (2, 1), done
    assert done.errors.startswith("p2pctl: ")
    assert "space" in done.errors
    assert [path for path in disks.seen(payloads).rglob("*") if path.is_file()] == []
    assert fleet.repository.pending() == ()
