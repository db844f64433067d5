# SPDX-License-Identifier: Apache-2.0
"""The verbs: what is answered, what is refused with which reason, and who waits for whom."""

import errno
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from p2pd.host.control_socket import ControlRefused
from p2pd.host.wall_clock import WallClock
from p2pd.installer.config import InstallerConfig
from p2pd.installer.disk import Disk
from p2pd.installer.requests import InstallRequests
from p2pd.installer.service import open_installer
from p2pd.installer.turns import MAX_WAITING
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

    async def ask(self, verb: str, release: MadeRelease, **more: Any) -> Mapping[str, Any]:
        arguments = {"product": release.manifest.manifest.product, "manifest_sha256": release.sha256, **more}
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
        ("status", {"products": "tool"}, "unknown key 'products'"),
        ("status", {"product": "../x"}, "product '../x' must be"),
        ("install", {"product": "tool", "version": "1", "mirror": "/m"}, "key 'transport' is missing"),
        ("install", {"product": "../x", "version": "1", "mirror": "/m", "transport": "/t"}, "product '../x' must be"),
        ("install", {"product": "tool", "version": "../1", "mirror": "/m", "transport": "/t"}, "version '../1' must"),
        ("install", {"product": "tool", "version": "1", "mirror": "m", "transport": "/t"}, "mirror must be an abs"),
        ("install", {"product": "tool", "version": "1", "mirror": "/m", "transport": "/t\0"}, "transport must be"),
        ("install", {"product": "tool", "version": 1, "mirror": "/m", "transport": "/t"}, "expected str, found int"),
        ("commit", {"product": "tool", "manifest_sha256": "abc"}, "must be 64 lower-case hexadecimal digits"),
        ("rollback", {"product": "tool", "manifest_sha256": "a" * 64, "force": True}, "unknown key 'force'"),
        ("rollback", {"product": "tool", "manifest_sha256": "a" * 64, "mirror": "m"}, "mirror must be an absolute"),
        ("commit", {"product": "tool", "manifest_sha256": "a" * 64, "mirror": "/m"}, "unknown key 'mirror'"),
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


async def test_the_mirror_tells_a_rollback_of_recalls(site: Site) -> None:
    first, second = site.release("1.0", 10), site.release("1.1", 11)
    await site.install(first)
    await site.ask("commit", first)
    await site.install(second)
    site.mirror.recall(first)
    with pytest.raises(ControlRefused, match="it eats disks") as refused:
        await site.ask("rollback", second, mirror=str(site.mirror.directory))
    assert refused.value.reason is Reason.RECALLED
    status = (await site.status())["tool"]
    assert (status["phase"], status["active"]) == ("probation", describe(second))
    with pytest.raises(ControlRefused):
        await site.ask("rollback", second)  # known from now on
    await site.install(site.release("1.2", 12))
    assert (await site.status())["tool"]["active"]["version"] == "1.2", "the fix is let in"


@pytest.mark.parametrize("trouble", ["absent", "expired", "untrusted"])
async def test_no_mirror_stands_in_the_way_of_a_rollback(site: Site, trouble: str, tmp_path: Path) -> None:
    first, second = site.release("1.0", 10), site.release("1.1", 11)
    await site.install(first)
    await site.ask("commit", first)
    await site.install(second)
    mirror = tmp_path / "absent"
    if trouble == "expired":
        mirror = site.mirror.directory
        site.unix += timedelta(days=31).total_seconds()
    elif trouble == "untrusted":
        mirror = SignedMirror(tmp_path / "forged", NOW).directory
    assert (await site.ask("rollback", second, mirror=str(mirror)))["active"] == describe(first)


async def test_requests_for_a_product_wait_in_line_and_others_go_on(site: Site) -> None:
    slow, other = site.release("1.0", 10), site.release("2.0", 20, product="other")
    answers: list[Mapping[str, Any]] = []

    async def keep_answer(request: Callable[[], Awaitable[Mapping[str, Any]]]) -> None:
        answers.append(await request())

    site.disk.go_on.clear()
    async with trio.open_nursery() as nursery:
        for request in (
            partial(site.install, slow),
            partial(site.install, slow),
            partial(site.ask, "commit", slow),
            partial(site.ask, "rollback", slow),
        ):
            nursery.start_soon(keep_answer, request)
            await trio.testing.wait_all_tasks_blocked()
        await trio.to_thread.run_sync(partial(site.disk.reached.wait, 30))
        status = await site.status()
        assert (status["tool"]["phase"], status["tool"]["active"]) == ("installing", None)
        assert status["tool"]["pending"] == describe(slow)
        site.disk.reached.clear()
        nursery.start_soon(site.install, other)
        await trio.to_thread.run_sync(partial(site.disk.reached.wait, 30))  # it got as far, past the other one
        site.disk.go_on.set()
    slot = str(site.directory / f"root/products/tool/slots/10-{slow.sha256[:12]}")
    installed = {"slot": slot, "previous": None}
    assert answers == [installed, installed, {}, {"active": None}]
    assert {name: product["phase"] for name, product in (await site.status()).items()} == {"other": "probation"}


async def test_too_many_requests_for_a_product_are_refused(site: Site) -> None:
    slow = site.release("1.0", 10)
    site.disk.go_on.clear()
    async with trio.open_nursery() as nursery:
        for _ in range(1 + MAX_WAITING):
            nursery.start_soon(site.install, slow)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(ControlRefused) as refused:
            await site.install(slow)
        assert refused.value.reason is Reason.BUSY
        site.disk.go_on.set()


async def test_our_own_disk_failing_is_an_answer_and_no_crash(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    first = site.release("1.0", 10)
    site.mirror.recall(site.release("0.9", 9))

    def fail(number: int) -> Callable[..., None]:
        def operation(*arguments: Any, **more: Any) -> None:
            raise OSError(number, os.strerror(number))

        return operation

    for number, reason in ((errno.ENOSPC, Reason.DISK_FULL), (errno.EROFS, Reason.STORAGE_FAILED)):
        with monkeypatch.context() as patch:
            patch.setattr(site.disk, "create_file", fail(number))
            with pytest.raises(ControlRefused) as refused:
                await site.install(first)
            assert refused.value.reason is reason
    await site.install(first)
    with monkeypatch.context() as patch:
        patch.setattr("p2pd.installer.journal.read_bounded", fail(errno.EIO))
        for request in (site.status, partial(site.ask, "commit", first), partial(site.ask, "rollback", first)):
            with pytest.raises(ControlRefused) as refused:
                await request()
            assert refused.value.reason is Reason.STORAGE_FAILED
    assert (await site.status())["tool"]["phase"] == "probation"


async def test_a_transport_that_is_gone_can_be_fetched_again(site: Site) -> None:
    first = site.release("1.0", 10)
    kept = first.transport.rename(first.transport.with_suffix(".kept"))
    with pytest.raises(ControlRefused, match=first.transport.name) as refused:
        await site.install(first)
    assert refused.value.reason is Reason.PAYLOAD_MISSING
    kept.rename(first.transport)
    await site.install(first)


async def test_one_damaged_record_hides_no_other_product(site: Site) -> None:
    await site.install(site.release("1.0", 10))
    (site.directory / "state/journal/other.json").write_text("{")
    assert list(await site.status()) == ["tool"]


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
