# SPDX-License-Identifier: Apache-2.0
"""Real processes, really killed in the middle of installs; the moments are random, and the same in every run."""

import contextlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio

from p2pd.adapters.installer_socket import InstallerSocket
from p2pd.ports import InstallerFailure, InstallPhase
from tests.p2pd.installer.made_releases import MadeRelease, make_release, read_files
from tests.p2pd.installer.signed_mirror import SignedMirror

KILLS = 3
START_SECONDS = 60  # importing takes one second; a machine may be busy
SEED = 20_300_101


class Machine:
    """An endpoint on which p2pd-install is started, asked, and killed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.mirror = SignedMirror(directory / "mirror", datetime.now(UTC))
        self.installer = InstallerSocket(directory / "s")
        self.config = directory / "p2pd-install.toml"
        self.config.write_text(
            f'state_dir = "{directory}/state"\ninstall_root = "{directory}/root"\n'
            f'socket = "{directory}/s"\ninitial_root = "{directory}/root.json"\nlog_level = "error"\n'
        )
        (directory / "root.json").write_bytes(self.mirror.root)

    def release(self, counter: int) -> MadeRelease:
        """Many small files and a few large ones, so that an install takes its time."""
        generator = random.Random(counter)  # noqa: S311 (content for tests)
        files = {f"small/{n}": generator.randbytes(300) for n in range(200)}
        files |= {f"large/{n}": generator.randbytes(2 << 20) for n in range(4)} | {"readme": b"%d\n" % counter}
        release = make_release(self.directory / "made", f"1.{counter}", counter, files)
        self.mirror.sign(release)
        return release

    @asynccontextmanager
    async def running(self) -> AsyncIterator[trio.Process]:
        command = [sys.executable, "-m", "p2pd.installer", "--config", str(self.config)]
        process = await trio.lowlevel.open_process(command, stdin=subprocess.DEVNULL)
        try:
            with trio.fail_after(START_SECONDS):
                while not await self._answers():
                    assert process.poll() is None, "p2pd-install did not start"
                    await trio.sleep(0.02)
            yield process
        finally:
            process.kill()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 10):
                await process.wait()

    async def _answers(self) -> bool:
        try:
            await self.installer.status()
        except InstallerFailure:
            return False
        return True

    async def killed_during(self, release: MadeRelease, process: trio.Process, seconds: float) -> None:
        """Ask for an install and kill the process after so long; the answer may come, or get lost."""

        async def ask() -> None:
            with contextlib.suppress(InstallerFailure):
                await self.install(release)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(seconds)
            process.send_signal(signal.SIGKILL)
            await process.wait()

    async def install(self, release: MadeRelease) -> None:
        manifest = release.manifest.manifest
        await self.installer.install(
            product="tool", version=manifest.version, mirror=self.mirror.directory, transport=release.transport
        )

    async def commit(self, release: MadeRelease) -> None:
        await self.installer.commit(product="tool", manifest_sha256=release.sha256)

    def in_use(self) -> dict[str, bytes]:
        return read_files(self.directory / "root/products/tool/current")

    def litter(self) -> list[str]:
        """What is neither a release nor a record."""
        slots = len(list((self.directory / "root/products/tool/slots").iterdir()))
        stored = len(list((self.directory / "state/releases/tool").iterdir()))
        assert slots == stored <= 2
        roots = ("state/trust/metadata", "state/journal", "root/products/tool")
        names = [path.name for root in roots for path in (self.directory / root).iterdir()]
        return [name for name in names if name.startswith((".", "tmp"))]


async def test_kills_in_the_middle_of_installs(tmp_path: Path) -> None:
    machine, generator = Machine(tmp_path), random.Random(SEED)  # noqa: S311 (moments for tests)
    old, new = machine.release(1), machine.release(2)
    async with machine.running() as process:
        began = trio.current_time()
        await machine.install(old)
        whole = trio.current_time() - began
        await machine.commit(old)
        await machine.killed_during(new, process, whole * generator.random())
    for counter in range(3, 3 + KILLS):
        assert machine.in_use() in (old.files, new.files), "before recovery"
        async with machine.running() as process:
            await check_recovery(machine, old, new)
            old, new = new, machine.release(counter)
            await machine.killed_during(new, process, whole * generator.random())
    async with machine.running():
        await check_recovery(machine, old, new)


async def check_recovery(machine: Machine, old: MadeRelease, new: MadeRelease) -> None:
    product = (await machine.installer.status())["tool"]
    assert product.phase in (InstallPhase.IDLE, InstallPhase.PROBATION)
    assert product.active is not None
    assert machine.in_use() == {old.sha256: old.files, new.sha256: new.files}[product.active.manifest_sha256]
    await machine.install(new)
    assert machine.in_use() == new.files
    await machine.installer.rollback(product="tool", manifest_sha256=new.sha256, mirror=machine.mirror.directory)
    assert machine.in_use() == old.files, "the fallback was intact"
    await machine.install(new)
    await machine.commit(new)
    assert machine.litter() == []


async def test_it_stops_when_told_to(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    async with machine.running() as process:
        process.terminate()
        with trio.fail_after(30):
            assert await process.wait() == 0
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ('state_dri = "/x"', "unknown key 'state_dri'; did you mean 'state_dir'?"),
        ('state_dir = "x"\ninstall_root = "/r"\nsocket = "/s"\ninitial_root = "/i"', "must be an absolute path"),
        ("state_dir = ", "is not valid TOML"),
        (
            'state_dir = "{0}/t"\ninstall_root = "{0}/r"\nsocket = "{0}/s"\ninitial_root = "{0}/absent"',
            "initial_root cannot be read",
        ),
        (
            'state_dir = "{0}/p2pd-install.toml"\ninstall_root = "{0}/r"\nsocket = "{0}/s"\ninitial_root = "{0}/i"',
            "cannot be made",
        ),
    ],
)
async def test_what_an_administrator_can_mend_is_told_in_one_line(tmp_path: Path, config: str, problem: str) -> None:
    path = tmp_path / "p2pd-install.toml"
    path.write_text(config.replace("{0}", str(tmp_path)))
    command = [sys.executable, "-m", "p2pd.installer", "--config", str(path)]
    done = await trio.run_process(command, capture_stderr=True, check=False, env=dict(os.environ))
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.decode().splitlines() if not line.startswith("{")]
    assert line.startswith("p2pd-install: ")
    assert problem in line
