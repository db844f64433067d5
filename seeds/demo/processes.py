# SPDX-License-Identifier: Apache-2.0
"""The demo's real processes: one coordinator, six agents with their installers, and every one of them ended."""

import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from signing.errors import BadInput

AGENTS = 6
END_SECONDS = 5.0
_BIN = Path(sys.executable).parent


class CommandFailed(Exception):
    """A command of the demo failed; its output says why."""


@dataclass(frozen=True, kw_only=True)
class AgentHome:
    """One agent's address and files."""

    name: str
    address: str
    directory: Path

    @property
    def config(self) -> Path:
        """The daemon's configuration."""
        return self.directory / "p2pd.toml"

    @property
    def installer_config(self) -> Path:
        """The installer's configuration."""
        return self.directory / "p2pd-install.toml"

    @property
    def control_socket(self) -> Path:
        """Where the daemon answers."""
        return self.directory / "run" / "p2pd.sock"

    @property
    def install_root(self) -> Path:
        """Where products are installed."""
        return self.directory / "opt"


class Stage:
    """Commands run in the demo's environment; daemons live in the nursery of `stage` and end with it."""

    def __init__(self, directory: Path, nursery: trio.Nursery, guard: trio.Process) -> None:
        self._guard = guard
        self._telling_guard = trio.Lock()
        self.directory = directory
        self.fleet = directory / "fleet"
        self._nursery = nursery
        passphrases = {role: directory / f"{role}-passphrase" for role in ("offline", "online")}
        for path in passphrases.values():
            path.touch(mode=0o600)
            path.write_text(secrets.token_urlsafe(16))
        self._environment = os.environ | {
            "P2PCTL_FLEET": str(self.fleet),
            "P2PCTL_OFFLINE_PASSPHRASE_FILE": str(passphrases["offline"]),
            "P2PCTL_ONLINE_PASSPHRASE_FILE": str(passphrases["online"]),
        }

    async def run(self, *argv: str, stdin: bytes = b"") -> str:
        """Run one of our commands to its end; its standard output. Raises CommandFailed."""
        done = await trio.run_process(
            [str(_BIN / argv[0]), *argv[1:]],
            stdin=stdin,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env=self._environment,
            start_new_session=True,  # Ctrl-C is ours to handle: children end when we say so
        )
        if done.returncode != 0:
            raise CommandFailed(f"{' '.join(argv[:3])}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout.decode()

    async def start(self, log: Path, *argv: str) -> None:
        """Start a daemon that lives until the stage is left. Its log goes to a file."""
        pid = await self._nursery.start(_keep, [str(_BIN / argv[0]), *argv[1:]], self._environment, log)
        async with self._telling_guard:
            if self._guard.stdin is None:
                return
            await self._guard.stdin.send_all(f"{pid}\n".encode())


@asynccontextmanager
async def stage(directory: Path) -> AsyncIterator[Stage]:
    """A place to run processes in. Whatever was started has ended when the block is left, however it is left.

    Even by `kill -9`: a guard process ends the others then.
    """
    guard = await trio.lowlevel.open_process(
        [sys.executable, "-m", "seeds.demo.guard"], stdin=subprocess.PIPE, start_new_session=True
    )
    try:
        async with trio.open_nursery() as nursery:
            yield Stage(directory, nursery, guard)
            nursery.cancel_scope.cancel()
    finally:
        await _dismiss(guard)


async def _dismiss(guard: trio.Process) -> None:
    with trio.move_on_after(2 * END_SECONDS, shield=True):
        if guard.stdin is not None:
            await guard.stdin.aclose()
        await guard.wait()


async def _keep(
    argv: Sequence[str], environment: dict[str, str], log: Path, *, task_status: trio.TaskStatus[int]
) -> None:
    with log.open("wb") as output:
        process = await trio.lowlevel.open_process(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        task_status.started(process.pid)
        try:
            status = await process.wait()
            raise CommandFailed(f"{Path(argv[0]).name} ended by itself with {status}; see {log}")
        finally:
            await _end(process)


async def _end(process: trio.Process) -> None:
    with trio.CancelScope(shield=True):
        if process.poll() is None:
            process.terminate()
            with trio.move_on_after(END_SECONDS):
                await process.wait()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            with trio.move_on_after(END_SECONDS):
                await process.wait()


def loopback_addresses() -> tuple[str, ...]:
    """An address for the coordinator and one for each agent, in a /24 of the loopback network picked by chance.

    So two demos on one machine do not meet, and no port needs to be searched for.
    """
    prefix = f"127.{1 + secrets.randbelow(250)}.{secrets.randbelow(255)}"
    addresses = tuple(f"{prefix}.{1 + host}" for host in range(AGENTS + 1))
    for address in addresses:
        with socket.socket() as probe:
            try:
                probe.bind((address, 0))
            except OSError as problem:
                raise BadInput(address, f"cannot be bound ({problem.strerror})", "the demo needs 127.0.0.0/8") from None
    return addresses
