# SPDX-License-Identifier: Apache-2.0
"""Small disks: tmpfs in a mount namespace of its own, which nobody else sees and which ends with its holder."""

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from bench.lab.processes import Processes
from tests.end_to_end.waiting import eventually

COMMANDS = ("unshare", "nsenter", "mount", "sleep")


@functools.cache
def why_not_available() -> str | None:
    """What this machine lacks, in a sentence; None if small disks can be made."""
    if sys.platform != "linux":
        return "mount namespaces exist on Linux only"
    if os.geteuid() != 0:
        return "mounting a small disk needs root"
    missing = [name for name in COMMANDS if shutil.which(name) is None]
    if missing:
        return f"a small disk needs the command {missing[0]!r}"
    tried = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)  # noqa: S607 (found above)
    return None if tried.returncode == 0 else f"mount namespaces are not permitted here: {tried.stderr.decode()}"


class SmallDisks:
    """A mount namespace. Commands with `prefix` before them run in it."""

    def __init__(self, processes: Processes, holder: int) -> None:
        self._processes = processes
        self._root = Path(f"/proc/{holder}/root")
        self.prefix: Sequence[str] = ("nsenter", "--target", str(holder), "--mount")

    async def mount(self, directory: Path, *, size: int) -> None:
        """Put an empty disk of so many bytes over `directory`, which is made if missing."""
        directory.mkdir(parents=True, exist_ok=True)
        options = f"size={size},mode=0700"
        done = await self._processes.run(
            [*self.prefix, "mount", "-t", "tmpfs", "-o", options, "small-disk", str(directory)]
        )
        assert done.status == 0, done.errors

    def seen(self, path: Path) -> Path:
        """Where we find what the namespace has at the absolute `path`."""
        return self._root / path.relative_to("/")


@asynccontextmanager
async def open_small_disks(processes: Processes, log: Path) -> AsyncIterator[SmallDisks]:
    """A mount namespace for as long as the block lasts."""
    holder = await processes.start(["unshare", "--mount", "--propagation", "private", "sleep", "infinity"], log=log)
    comm = Path(f"/proc/{holder.pid}/comm")

    async def name() -> str:
        return comm.read_text().strip()

    await eventually(name, lambda now: now == "sleep", "the namespace is there")
    yield SmallDisks(processes, holder.pid)
    await holder.kill()
