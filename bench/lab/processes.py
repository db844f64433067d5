# SPDX-License-Identifier: Apache-2.0
"""Real processes in a lab, and what they cost: CPU seconds to the last, peak memory, and none left at the end.

A process is reaped by `wait4`, so that its CPU seconds, and those of children that it waited for, are exact even when
it ends in the middle of a measurement. Its peak memory is looked at (`VmHWM`) while it lives: what `wait4` tells
includes the memory of this Python at the moment of the fork.
"""

import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import trio

COMMAND_SECONDS = 120.0
END_SECONDS = 20.0  # for a daemon that was asked to stop, on a busy machine
LOG_TAIL_CHARS = 3_000
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_UTIME = 11  # of the fields of /proc/PID/stat after the command's name; sys, and both of waited-for children, follow


class ProcessFailed(Exception):
    """A process of the lab ended by itself, or a command failed; its output says why."""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A command that has ended."""

    status: int
    output: str
    errors: str


class LabProcess:
    """A process that lives until it ends or is killed. `ended` is set once it is reaped, and `status` says how."""

    def __init__(self, name: str, popen: "subprocess.Popen[bytes]", log: Path, *, may_end: bool) -> None:
        self.name = name
        self.pid = popen.pid
        self.log = log
        self.ended = trio.Event()
        self.status: int | None = None
        self.ended_unix: float | None = None
        self._popen = popen
        self._may_end = may_end
        self._cpu_seconds = 0.0
        self._peak_bytes = 0

    def cpu_seconds(self) -> float:
        """User and system time so far, in seconds; of one that has ended, to its end."""
        if not self.ended.is_set():
            with suppress(OSError):
                self._cpu_seconds = parse_cpu_seconds(Path(f"/proc/{self.pid}/stat").read_text())
        return self._cpu_seconds

    def peak_bytes(self) -> int:
        """The most memory that it was seen to have resident; of one that has ended, at the last look."""
        if not self.ended.is_set():
            with suppress(OSError):
                self._peak_bytes = parse_peak_bytes(Path(f"/proc/{self.pid}/status").read_text()) or self._peak_bytes
        return self._peak_bytes

    async def kill(self) -> None:
        """kill -9, of whatever it started too; return when it is gone."""
        self._may_end = True
        self._kill_group()
        with trio.fail_after(END_SECONDS):
            await self.ended.wait()

    async def stop(self) -> None:
        """Ask it to end, as init systems do, and wait until it has. Raises ProcessFailed when it ends badly."""
        self._may_end = True
        if not self.ended.is_set():
            os.kill(self.pid, signal.SIGTERM)
        with trio.fail_after(END_SECONDS):
            await self.ended.wait()
        if self.status != 0:
            raise ProcessFailed(f"{self.name} ended with {self.status}: {self.tail()}")

    async def tell(self, data: bytes) -> None:
        """Write to its standard input, which must have been asked for; small texts that fit into a pipe."""
        if self._popen.stdin is None:
            raise ValueError(f"{self.name} has no standard input")
        self._popen.stdin.write(data)
        self._popen.stdin.flush()
        await trio.lowlevel.checkpoint()

    def tail(self) -> str:
        """The end of its log, for messages."""
        return self.log.read_text(errors="replace")[-LOG_TAIL_CHARS:] if self.log.exists() else ""

    async def watch(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Reap it when it ends; kill it when cancelled. Raises ProcessFailed if it ends and was not to."""
        pidfd = os.pidfd_open(self.pid)
        try:
            task_status.started()
            await trio.lowlevel.wait_readable(pidfd)
            self.ended_unix = time.time()
        finally:
            os.close(pidfd)
            self._kill_group()  # what it started goes with it
            self._reap()
        if not self._may_end:
            raise ProcessFailed(f"{self.name} ended by itself with {self.status}: {self.tail()}")

    def _kill_group(self) -> None:
        if not self.ended.is_set():
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def _reap(self) -> None:
        _, waited, usage = os.wait4(self.pid, 0)  # at once: it has ended, or was just killed
        self.status = self._popen.returncode = os.waitstatus_to_exitcode(waited)
        self._cpu_seconds = usage.ru_utime + usage.ru_stime
        if self._popen.stdin is not None:
            with suppress(BrokenPipeError):
                self._popen.stdin.close()
        self.ended.set()


class Processes:
    """Starts processes. Made by `open_processes`."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.daemons: list[LabProcess] = []
        self._nursery = nursery

    async def start(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        name: str = "",
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
        may_end: bool = False,
        stdin: bool = False,
    ) -> LabProcess:
        """Start a process, its output appended to `log`. One that ends by itself is a failure unless it `may_end`."""
        with log.open("ab") as output:
            popen = subprocess.Popen(  # noqa: ASYNC220 (returns at once; trio's would reap it, and not tell its cost)
                list(argv),
                stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                cwd=directory,
                start_new_session=True,  # a group of its own, to be killed as one; and Ctrl-C is ours to handle
            )
        process = LabProcess(name or Path(argv[0]).name, popen, log, may_end=may_end)
        self.daemons.append(process)
        await self._nursery.start(process.watch)
        return process

    async def run(
        self,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        seconds: float = COMMAND_SECONDS,
    ) -> Finished:
        """Run a command to its end. Raises trio.TooSlowError after `seconds`."""
        with trio.fail_after(seconds):
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


@asynccontextmanager
async def open_processes() -> AsyncIterator[Processes]:
    """Whatever is started in the block has been killed when the block is left. Raises ProcessFailed."""
    async with trio.open_nursery() as nursery:
        yield Processes(nursery)
        nursery.cancel_scope.cancel()


def parse_cpu_seconds(stat: str) -> float:
    """User and system seconds in the text of /proc/PID/stat, with those of children that were waited for."""
    fields = stat[stat.rindex(")") + 1 :].split()  # the name in parentheses may contain anything
    return sum(map(int, fields[_UTIME : _UTIME + 4])) / _TICKS_PER_SECOND


def parse_peak_bytes(status: str) -> int:
    """`VmHWM` in the text of /proc/PID/status, in bytes; 0 for one without memory, which has just ended."""
    line = next((line for line in status.splitlines() if line.startswith("VmHWM:")), "VmHWM: 0 kB")
    return int(line.split()[1]) * 1024
