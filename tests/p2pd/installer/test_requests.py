# SPDX-License-Identifier: Apache-2.0
"""The verbs: what is answered, what is refused with which reason, and who waits for whom."""

import threading
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from p2pd.host.control_socket import ControlRefused
from p2pd.host.wall_clock import WallClock
from p2pd.installer.config import InstallerConfig
from p2pd.installer.disk import Disk
from p2pd.installer.requests import InstallRequests
from p2pd.installer.service import open_installer
from signing.errors import BadInput, Expired
from signing.reasons import Reason
from tests.p2pd.installer.made_releases import SECOND_FILES, MadeRelease, make_release
from tests.p2pd.installer.signed_mirror import SignedMirror

NOW = datetime(2030, 1, 1, tzinfo=UTC)


class HesitantDisk(Disk):
    """Waits in the middle of an install until it is let go."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def sync_filesystem(self, path: Path) -> None:
        """See Disk."""
        self.reached.set()
        assert self.go_on.wait(30)
        super().sync_filesystem(path)


class Site:
    """p2pd-install's handler over its own disk and clock, and who signs for it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.unix = NOW.timestamp()
        self.disk = HesitantDisk()
        self.mirror = SignedMirror(directory / "mirror", NOW)
        self.requests: InstallRequests
        (directory / "root.json").write_bytes(self.mirror.root)
        self.config = InstallerConfig(
            state_dir=str(directory / "state"),
            install_root=str(directory / "root"),
            socket=str(directory / "s"),
            initial_root=str(directory / "root.json"),
        )

    def release(self, version: str, counter: int, **more: Any) -> MadeRelease:
        release = make_release(self.directory / "made", version, counter, SECOND_FILES, **more)
        self.mirror.sign(release)
        return release

    async def install(self, release: MadeRelease) -> Mapping[str, Any]:
        manifest = release.manifest.manifest
        arguments = {"product": manifest.product, "version": manifest.version}
        places = {"mirror": str(self.mirror.directory), "transport": str(release.transport)}
        return await self.requests.handle("install", {**arguments, **places})

    async def ask(self, verb: str, release: MadeRelease) -> Mapping[str, Any]:
        arguments = {"product": release.manifest.manifest.product, "manifest_sha256": release.sha256}
        return await self.requests.handle(verb, arguments)

    async def status(self) -> Any:
        return (await self.requests.handle("status", {}))["products"]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    site = Site(tmp_path)
    with open_installer(site.config, site.disk, WallClock(lambda: site.unix)) as site.requests:
        yield site


async def test_the_answers_are_those_of_the_protocol(site: Site) -> None:
    first, second = site.release("1.0", 10), site.release("1.1", 11)
    one, two = describe(first), describe(second)
    slots = site.directory / "root/products/tool/slots"
    first_slot, second_slot = (str(slots / f"{n}-{r.sha256[:12]}") for n, r in ((10, first), (11, second)))

    assert await site.status() == {}
    assert await site.install(first) == {"slot": first_slot, "previous": None}
    assert await site.ask("commit", first) == {}
    assert await site.status() == {
        "tool": {"active": one, "previous": None, "pending": None, "phase": "idle", "slot": first_slot}
    }
    assert await site.install(second) == {"slot": second_slot, "previous": one}
    assert await site.status() == {
        "tool": {"active": two, "previous": one, "pending": two, "phase": "probation", "slot": second_slot}
    }
    assert await site.ask("rollback", second) == {"active": one}


def describe(release: MadeRelease) -> dict[str, Any]:
    manifest = release.manifest.manifest
    return {
        "version": manifest.version,
        "release_counter": manifest.release_counter,
        "manifest_sha256": release.sha256,
        "installed_at": int(NOW.timestamp()),
    }


@pytest.mark.parametrize(
    ("verb", "arguments", "problem"),
    [
        ("instal", {}, "unknown verb 'instal'"),
        ("status", {"product": "tool"}, "unknown key 'product'"),
        ("install", {"product": "tool", "version": "1", "mirror": "/m"}, "key 'transport' is missing"),
        ("install", {"product": "../x", "version": "1", "mirror": "/m", "transport": "/t"}, "product '../x' must be"),
        ("install", {"product": "tool", "version": "../1", "mirror": "/m", "transport": "/t"}, "version '../1' must"),
        ("install", {"product": "tool", "version": "1", "mirror": "m", "transport": "/t"}, "mirror must be an abs"),
        ("install", {"product": "tool", "version": "1", "mirror": "/m", "transport": "/t\0"}, "transport must be"),
        ("install", {"product": "tool", "version": 1, "mirror": "/m", "transport": "/t"}, "expected str, found int"),
        ("commit", {"product": "tool", "manifest_sha256": "abc"}, "must be 64 lower-case hexadecimal digits"),
        ("rollback", {"product": "tool", "manifest_sha256": "a" * 64, "force": True}, "unknown key 'force'"),
    ],
)
async def test_malformed_requests_are_refused_by_name(
    site: Site, verb: str, arguments: Mapping[str, Any], problem: str
) -> None:
    with pytest.raises(BadInput, match=problem):
        await site.requests.handle(verb, arguments)


async def test_expiry_blocks_installs_and_neither_commits_nor_rollbacks(site: Site) -> None:
    first, second, third = site.release("1.0", 10), site.release("1.1", 11), site.release("1.2", 12)
    await site.install(first)
    site.unix += timedelta(days=31).total_seconds()
    await site.ask("commit", first)
    with pytest.raises(Expired):
        await site.install(second)
    site.unix -= timedelta(days=31).total_seconds()
    await site.install(second)
    site.unix += timedelta(days=31).total_seconds()
    assert (await site.ask("rollback", second))["active"] == describe(first)
    with pytest.raises(Expired):
        await site.install(third)


async def test_a_recall_is_known_at_rollback_though_nobody_tells_again(site: Site) -> None:
    first, second = site.release("1.0", 10), site.release("1.1", 11)
    await site.install(first)
    await site.ask("commit", first)
    site.mirror.recall(first)
    await site.install(second)
    with pytest.raises(ControlRefused) as refused:
        await site.ask("rollback", second)
    assert refused.value.reason is Reason.RECALLED


async def test_one_request_at_a_time_for_a_product_and_others_go_on(site: Site) -> None:
    slow, other = site.release("1.0", 10), site.release("2.0", 20, product="other")
    site.disk.go_on.clear()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.install, slow)
        await trio.to_thread.run_sync(partial(site.disk.reached.wait, 30))
        for request in (
            partial(site.install, slow),
            partial(site.ask, "commit", slow),
            partial(site.ask, "rollback", slow),
        ):
            with pytest.raises(ControlRefused) as refused:
                await request()
            assert refused.value.reason is Reason.BUSY
        status = await site.status()
        assert (status["tool"]["phase"], status["tool"]["active"]) == ("installing", None)
        assert status["tool"]["pending"] == describe(slow)
        site.disk.reached.clear()
        nursery.start_soon(site.install, other)
        await trio.to_thread.run_sync(partial(site.disk.reached.wait, 30))  # it got as far, past the other one
        site.disk.go_on.set()
    assert {name: product["phase"] for name, product in (await site.status()).items()} == {
        "tool": "probation",
        "other": "probation",
    }


async def test_a_refused_request_leaves_the_product_free(site: Site) -> None:
    first = site.release("1.0", 10)
    with pytest.raises(ControlRefused):
        await site.ask("commit", first)
    await site.install(first)


async def test_only_one_process_holds_the_state(site: Site) -> None:
    with (
        pytest.raises(BadInput, match="in use by another p2pd-install"),
        open_installer(site.config, Disk(), WallClock()),
    ):
        pass


async def test_directories_that_others_may_write_are_not_trusted(site: Site) -> None:
    for name, mode in (("state", 0o770), ("root", 0o757), ("root/products", 0o777)):
        directory = site.directory / name
        before = directory.stat().st_mode & 0o777
        directory.chmod(mode)
        with (
            pytest.raises(BadInput, match="writable by nobody else"),
            open_installer(site.config, Disk(), WallClock()),
        ):
            pass
        directory.chmod(before)
