# SPDX-License-Identifier: Apache-2.0
"""kill -9 in mid-install, of the installer, of the daemon, of both. The moments are random, and the same in every run.

Whatever dies when: what is in use is whole, the old release or the new one, and after a restart the new one commits.
"""

import json
import os
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from signing.policy import Ring
from tests.end_to_end.endpoint import Endpoint
from tests.end_to_end.fleet import PRODUCT, FleetUnderTest, start_all
from tests.end_to_end.template import Release
from tests.end_to_end.waiting import WAIT_SECONDS

SEED = 20_310_717
LATEST_SECONDS = 0.25  # after p2pd-install has begun: it takes about so long to have the release in use
SOON_SECONDS = 0.002
FILES, BYTES = 150, 1 << 20

VICTIMS = (("installer",), ("daemon",), ("installer", "daemon"), ("daemon", "installer"))


async def test_kills_in_mid_install(fleet: FleetUnderTest) -> None:
    chance = random.Random(SEED)  # noqa: S311 (moments for tests)
    fleet.use_rings(Ring(name="everyone"))
    await fleet.start_coordinator()
    (endpoint,) = await fleet.enrolled("desk-1")
    await start_all(endpoint)
    old = await release(fleet, 1)
    await endpoint.reaches(old, "committed")
    for counter, victims in enumerate(VICTIMS, 2):
        new = await release(fleet, counter)
        async with always_whole(endpoint, old, new):
            await installing(endpoint, new)
            await trio.sleep(chance.uniform(0, LATEST_SECONDS))
            for victim in victims:
                await (endpoint.kill_installer() if victim == "installer" else endpoint.kill())
            await endpoint.start()
            await endpoint.reaches(new, "committed", installed=new.version)
        assert endpoint.in_use(new) == new.files
        old = new
    await fleet.rollout_is(old, state="complete")


async def release(fleet: FleetUnderTest, counter: int) -> Release:
    return await fleet.release(f"2.{counter}", counter, size=BYTES, count=FILES)


async def installing(endpoint: Endpoint, new: Release) -> None:
    """Return as soon as p2pd-install's own journal says that it has begun to install the release."""
    journal = endpoint.directory / "install-state" / "journal" / f"{PRODUCT}.json"
    with trio.fail_after(WAIT_SECONDS):
        while True:
            candidate = json.loads(journal.read_text())["candidate"]
            if candidate is not None and candidate["version"] == new.version:
                return
            await trio.sleep(SOON_SECONDS)


@asynccontextmanager
async def always_whole(endpoint: Endpoint, old: Release, new: Release) -> AsyncIterator[None]:
    """Look at what is in use all the while: it is `old`, then `new`, and nothing else ever."""
    seen: list[str] = []

    async def watch(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        while True:
            files = await trio.to_thread.run_sync(read_through_one_link, endpoint.current(old))
            assert files in (old.files, new.files), f"{sorted(files)} are neither {old.version} nor {new.version}"
            seen.append(files["version"].decode())
            await trio.sleep(SOON_SECONDS)

    async with trio.open_nursery() as nursery:
        await nursery.start(watch)
        yield
        nursery.cancel_scope.cancel()
    assert set(seen) <= {old.version, new.version}
    assert seen[0] == old.version
    assert seen[-1] == new.version


def read_through_one_link(link: Path) -> Mapping[str, bytes]:
    """All files below what `link` is at one moment, though it may be switched while they are read."""
    top = os.open(link, os.O_RDONLY | os.O_DIRECTORY)
    try:
        files: dict[str, bytes] = {}
        for root, _, names, directory in os.fwalk(".", dir_fd=top):
            for name in names:
                with os.fdopen(os.open(name, os.O_RDONLY, dir_fd=directory), "rb") as file:
                    files[str(Path(root, name))] = file.read()
        return files
    finally:
        os.close(top)
