# SPDX-License-Identifier: Apache-2.0
"""What every `Installer` does: the fake in memory, and p2pd-install over its real socket."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import pytest
import trio

from p2pd.adapters.installer_socket import InstallerSocket
from p2pd.installer.config import InstallerConfig
from p2pd.installer.service import serve
from p2pd.ports import InstalledRelease, Installer, InstallerFailure, InstallPhase
from signing.reasons import Reason
from tests.fakes.fake_installer import FakeInstaller
from tests.p2pd.installer.made_releases import MadeRelease, make_release
from tests.p2pd.installer.signed_mirror import SignedMirror


class World(Protocol):
    """An installer, and the administrators whose releases it trusts."""

    installer: Installer

    def publish(self, release: MadeRelease) -> None:
        """Sign the release."""

    def recall(self, release: MadeRelease) -> None:
        """Withdraw it."""


class FakeWorld:
    def __init__(self, directory: Path) -> None:
        self._fake = FakeInstaller(directory, unix_now=lambda: int(datetime.now(UTC).timestamp()))
        self.installer: Installer = self._fake

    def publish(self, release: MadeRelease) -> None:
        self._fake.offer(release.manifest.manifest, release.sha256)

    def recall(self, release: MadeRelease) -> None:
        self._fake.recall(release.sha256)


class RealWorld:
    def __init__(self, socket: Path, mirror: SignedMirror) -> None:
        self.installer: Installer = InstallerSocket(socket)
        self._mirror = mirror

    def publish(self, release: MadeRelease) -> None:
        self._mirror.sign(release)

    def recall(self, release: MadeRelease) -> None:
        self._mirror.recall(release)


@asynccontextmanager
async def real_world(directory: Path) -> AsyncIterator[World]:
    mirror = SignedMirror(directory / "mirror", datetime.now(UTC))
    (directory / "root.json").write_bytes(mirror.root)
    config = InstallerConfig(
        state_dir=str(directory / "state"),
        install_root=str(directory / "root"),
        socket=str(directory / "s"),
        initial_root=str(directory / "root.json"),
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: serve(config, task_status=task_status))
        yield RealWorld(directory / "s", mirror)
        nursery.cancel_scope.cancel()


@pytest.fixture(params=["fake", "real"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    if request.param == "fake":
        yield FakeWorld(tmp_path)
    else:
        async with real_world(tmp_path) as real:
            yield real


class Administrator:
    """Makes and publishes releases of `tool`, and asks for them."""

    def __init__(self, world: World, directory: Path) -> None:
        self._world = world
        self._directory = directory
        self.installer = world.installer

    def publish(self, version: str, counter: int, **more: Any) -> MadeRelease:
        release = make_release(self._directory / "made", version, counter, {"readme": f"{version}\n".encode()}, **more)
        self._world.publish(release)
        return release

    def recall(self, release: MadeRelease) -> None:
        self._world.recall(release)

    async def install(self, release: MadeRelease, *, commit: bool = False) -> None:
        version = release.manifest.manifest.version
        installation = await self.installer.install(
            product="tool", version=version, mirror=self._directory / "mirror", transport=release.transport
        )
        assert installation.slot.is_absolute()
        if commit:
            await self.installer.commit(product="tool", manifest_sha256=release.sha256)

    async def rollback(self, release: MadeRelease) -> InstalledRelease | None:
        return await self.installer.rollback(
            product="tool", manifest_sha256=release.sha256, mirror=self._directory / "mirror"
        )

    async def refusal(self, release: MadeRelease) -> Reason:
        with pytest.raises(InstallerFailure) as failure:
            await self.install(release)
        return failure.value.reason


@pytest.fixture
def fleet(world: World, tmp_path: Path) -> Administrator:
    return Administrator(world, tmp_path)


def version_of(release: InstalledRelease | None) -> str | None:
    return None if release is None else release.version


async def test_nothing_is_installed_at_first(fleet: Administrator) -> None:
    assert await fleet.installer.status() == {}


async def test_a_release_is_on_probation_until_committed(fleet: Administrator) -> None:
    first = fleet.publish("1.0", 10)
    await fleet.install(first)
    product = (await fleet.installer.status())["tool"]
    assert product.phase is InstallPhase.PROBATION
    assert product.active == product.pending
    assert product.previous is None
    assert product.active is not None
    assert (product.active.version, product.active.release_counter) == ("1.0", 10)
    assert product.active.manifest_sha256 == first.sha256
    assert abs(product.active.installed_at - datetime.now(UTC).timestamp()) < 60
    for _ in "again":
        await fleet.installer.commit(product="tool", manifest_sha256=first.sha256)
        committed = (await fleet.installer.status())["tool"]
        assert (committed.phase, committed.active, committed.pending) == (InstallPhase.IDLE, product.active, None)
        assert committed.slot == product.slot


async def test_a_repeated_install_answers_the_same(fleet: Administrator) -> None:
    first, second = fleet.publish("1.0", 10), fleet.publish("1.1", 11)
    await fleet.install(first, commit=True)
    await fleet.install(second)
    before = await fleet.installer.status()
    await fleet.install(second)
    assert await fleet.installer.status() == before


async def test_an_update_names_what_it_replaced(fleet: Administrator) -> None:
    first, second = fleet.publish("1.0", 10), fleet.publish("1.1", 11)
    await fleet.install(first, commit=True)
    await fleet.install(second)
    product = (await fleet.installer.status())["tool"]
    assert (version_of(product.active), version_of(product.previous)) == ("1.1", "1.0")


async def test_a_rollback_restores_the_release_before(fleet: Administrator) -> None:
    first, second = fleet.publish("1.0", 10), fleet.publish("1.1", 11)
    await fleet.install(first, commit=True)
    before = await fleet.installer.status()
    await fleet.install(second)
    for _ in "again":
        active = await fleet.rollback(second)
        assert version_of(active) == "1.0"
        assert await fleet.installer.status() == before


async def test_a_committed_release_can_go_back_too(fleet: Administrator) -> None:
    first, second = fleet.publish("1.0", 10), fleet.publish("1.1", 11)
    await fleet.install(first, commit=True)
    await fleet.install(second, commit=True)
    assert version_of(await fleet.rollback(second)) == "1.0"
    product = (await fleet.installer.status())["tool"]
    assert (version_of(product.active), product.previous) == ("1.0", None)


async def test_a_rollback_of_the_first_release_leaves_nothing(fleet: Administrator) -> None:
    first = fleet.publish("1.0", 10)
    await fleet.install(first)
    assert await fleet.rollback(first) is None
    assert await fleet.installer.status() == {}


async def test_a_rollback_of_what_is_not_in_use_changes_nothing(fleet: Administrator, tmp_path: Path) -> None:
    first = fleet.publish("1.0", 10)
    assert await fleet.rollback(first) is None
    await fleet.install(first)
    assert version_of(await fleet.rollback(make_release(tmp_path / "unknown", "6.6", 66))) == "1.0"


async def test_commit_of_what_is_not_in_use_is_refused(fleet: Administrator) -> None:
    with pytest.raises(InstallerFailure) as failure:
        await fleet.installer.commit(product="tool", manifest_sha256="f" * 64)
    assert failure.value.reason is Reason.NOT_ON_PROBATION


async def test_refusals_carry_their_reasons_and_change_nothing(fleet: Administrator, tmp_path: Path) -> None:
    first, second = fleet.publish("1.0", 10), fleet.publish("1.1", 11)
    unsigned = make_release(tmp_path / "unsigned", "6.6", 66)
    await fleet.install(second)
    before = await fleet.installer.status()
    assert await fleet.refusal(first) is Reason.OLDER_THAN_INSTALLED
    assert await fleet.installer.status() == before
    await fleet.installer.commit(product="tool", manifest_sha256=second.sha256)
    before = await fleet.installer.status()
    assert await fleet.refusal(first) is Reason.OLDER_THAN_INSTALLED
    assert await fleet.refusal(unsigned) is Reason.METADATA_UNTRUSTED
    assert await fleet.refusal(fleet.publish("2.0", 20, oldest_fallback=12)) is Reason.FALLBACK_FORBIDDEN
    assert await fleet.refusal(fleet.publish("2.1", 21, installer="magic")) is Reason.INSTALLER_UNKNOWN
    recalled = fleet.publish("1.2", 12)
    fleet.recall(recalled)
    assert await fleet.refusal(recalled) is Reason.RECALLED
    assert await fleet.installer.status() == before


async def test_the_first_release_needs_a_known_installer(fleet: Administrator) -> None:
    assert await fleet.refusal(fleet.publish("1.0", 10, installer="magic")) is Reason.INSTALLER_UNKNOWN
    assert await fleet.installer.status() == {}


async def test_a_newer_release_takes_the_place_of_one_on_probation(fleet: Administrator) -> None:
    first, second, third = fleet.publish("1.0", 10), fleet.publish("1.1", 11), fleet.publish("1.2", 12)
    await fleet.install(first, commit=True)
    committed = await fleet.installer.status()
    await fleet.install(second)
    before = await fleet.installer.status()
    assert await fleet.refusal(fleet.publish("1.3", 13, oldest_fallback=11)) is Reason.FALLBACK_FORBIDDEN
    assert await fleet.installer.status() == before
    await fleet.install(third)
    product = (await fleet.installer.status())["tool"]
    assert (version_of(product.active), version_of(product.previous)) == ("1.2", "1.0")
    assert (product.phase, product.pending) == (InstallPhase.PROBATION, product.active)
    assert version_of(await fleet.rollback(third)) == "1.0"
    assert await fleet.installer.status() == committed


async def test_a_repeat_of_what_is_under_way_gets_its_answer(fleet: Administrator) -> None:
    first = fleet.publish("1.0", 10)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(fleet.install, first)
    product = (await fleet.installer.status())["tool"]
    assert (version_of(product.active), product.phase) == ("1.0", InstallPhase.PROBATION)


async def test_a_recalled_fallback_is_not_restored(fleet: Administrator) -> None:
    first, second = fleet.publish("1.0", 10), fleet.publish("1.1", 11)
    await fleet.install(first, commit=True)
    await fleet.install(second)
    before = await fleet.installer.status()
    fleet.recall(first)
    with pytest.raises(InstallerFailure) as failure:
        await fleet.rollback(second)
    assert failure.value.reason is Reason.RECALLED
    assert await fleet.installer.status() == before
    fix = fleet.publish("1.2", 12)
    await fleet.install(fix, commit=True)
    with pytest.raises(InstallerFailure) as failure:
        await fleet.rollback(fix)
    assert failure.value.reason is Reason.RECALLED, "after its commit as well"
    assert version_of((await fleet.installer.status())["tool"].active) == "1.2"


async def test_the_release_before_a_recalled_one_is_restored(fleet: Administrator) -> None:
    first, second, third = fleet.publish("1.0", 10), fleet.publish("1.1", 11), fleet.publish("1.2", 12)
    await fleet.install(first, commit=True)
    await fleet.install(second, commit=True)
    await fleet.install(third)
    fleet.recall(second)
    assert version_of(await fleet.rollback(third)) == "1.0"
    product = (await fleet.installer.status())["tool"]
    assert (version_of(product.active), product.previous, product.phase) == ("1.0", None, InstallPhase.IDLE)


async def test_the_release_before_a_recalled_one_may_be_too_old(fleet: Administrator) -> None:
    first, second = fleet.publish("1.0", 10), fleet.publish("1.1", 11)
    demanding, third = fleet.publish("1.2", 12, oldest_fallback=11), fleet.publish("1.3", 13)
    await fleet.install(first, commit=True)
    await fleet.install(second, commit=True)
    await fleet.install(demanding)
    await fleet.install(third)
    fleet.recall(second)
    with pytest.raises(InstallerFailure) as failure:
        await fleet.rollback(third)
    assert failure.value.reason is Reason.RECALLED
    assert version_of((await fleet.installer.status())["tool"].active) == "1.3"
