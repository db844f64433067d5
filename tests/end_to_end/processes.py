# SPDX-License-Identifier: Apache-2.0
"""Real processes of a test. Each is watched while it runs, and all have ended when the test has, however it ended."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import trio

BIN = Path(sys.executable).parent
COMMAND_SECONDS = 60.0
END_SECONDS = 20.0  # for a daemon that was asked to stop, on a busy machine
LOG_TAIL_CHARS = 3_000


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A command that has ended."""

    status: int
    output: str
    errors: str


@dataclass(kw_only=True)
class Daemon:
    """A process that lives until it is told, or killed."""

    name: str
    process: trio.Process
    log: Path
    was_asked: bool = False
    ended: trio.Event = field(default_factory=trio.Event)

    async def kill(self) -> None:
        """kill -9, of whatever it started too; return when it is gone."""
        self.was_asked = True
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        with trio.fail_after(END_SECONDS):
            await self.ended.wait()

    async def stop(self) -> None:
        """Ask it to stop, as init systems do. It must end well, and soon."""
        self.was_asked = True
        self.process.terminate()
        with trio.fail_after(END_SECONDS):
            await self.ended.wait()
        assert self.process.returncode == 0, f"{self.name} ended with {self.process.returncode}: {self.tail()}"

    def tail(self) -> str:
        """The end of its log, for messages."""
        return self.log.read_text(errors="replace")[-LOG_TAIL_CHARS:]


class Processes:
    """Starts processes. Made by `open_processes`."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.daemons: list[Daemon] = []

    async def start(
        self, argv: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None, name: str = ""
    ) -> Daemon:
        """Start a daemon, which fails the test if it ends without being asked to. Its output is appended to `log`."""
        with log.open("ab") as output:
            process = await trio.lowlevel.open_process(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,  # a group of its own, to be killed as one; and Ctrl-C is pytest's to handle
            )
        daemon = Daemon(name=name or Path(argv[0]).name, process=process, log=log)
        self.daemons.append(daemon)
        self._nursery.start_soon(self._watch, daemon)
        return daemon

    async def run(
        self, argv: Sequence[str], *, environment: Mapping[str, str] | None = None, stdin: bytes = b""
    ) -> Finished:
        """Run a command to its end."""
        with trio.fail_after(COMMAND_SECONDS):
            done = await trio.run_process(
                list(argv),
                stdin=stdin,
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        return Finished(
            status=done.returncode,
            output=done.stdout.decode(errors="replace"),
            errors=done.stderr.decode(errors="replace"),
        )

    async def _watch(self, daemon: Daemon) -> None:
        try:
            status = await daemon.process.wait()
            if not daemon.was_asked:
                raise AssertionError(f"{daemon.name} ended by itself with {status}: {daemon.tail()}")
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + END_SECONDS):
                with suppress(ProcessLookupError):
                    os.killpg(daemon.process.pid, signal.SIGKILL)
                await daemon.process.wait()
            daemon.ended.set()


@asynccontextmanager
async def open_processes() -> AsyncIterator[Processes]:
    """Whatever is started in the block has been killed when the block is left."""
    async with trio.open_nursery() as nursery:
        yield Processes(nursery)
        nursery.cancel_scope.cancel()


def command(name: str, *arguments: str | Path) -> list[str]:
    """The argument list of one of our own programs, as installed."""
    return [str(BIN / name), *map(str, arguments)]
