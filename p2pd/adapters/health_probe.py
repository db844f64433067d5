# SPDX-License-Identifier: Apache-2.0
"""Runs health checks: a command, an HTTP request, a TCP connection, each within its own time limit."""

import os
import signal
import ssl
import subprocess
from pathlib import Path

import httpx
import trio

from p2pd.ports_control import ProbeResult
from signing.manifest import CommandCheck, HttpCheck, TcpCheck

MOST_PROBES = 16  # thousands of products may be on probation together, and each check may be a process
DETAIL_CHARS = 500  # the tail of what a failing command printed: tracebacks end with the cause
_OUTPUT_BYTES = 65_536
_KILL_SECONDS = 5.0


class SystemHealthProbe:
    """Implements `p2pd.ports_control.HealthProbe` on this machine: MOST_PROBES at once, others wait for their turn."""

    def __init__(self) -> None:
        self._places = trio.CapacityLimiter(MOST_PROBES)

    async def run(self, check: CommandCheck | HttpCheck | TcpCheck, *, slot: Path) -> ProbeResult:
        """Run one check. Whatever it finds is a result, never an exception."""
        async with self._places:
            return await _run(check, slot)


async def _run(check: CommandCheck | HttpCheck | TcpCheck, slot: Path) -> ProbeResult:
    with trio.move_on_after(check.timeout_seconds):
        if isinstance(check, CommandCheck):
            return await _run_command(check, slot)
        if isinstance(check, HttpCheck):
            return await _get(check)
        return await _connect(check)
    return ProbeResult(passed=False, detail=f"no answer within {check.timeout_seconds:g} s")


async def _run_command(check: CommandCheck, slot: Path) -> ProbeResult:
    argv = [argument.replace("{slot}", str(slot)) for argument in check.argv]
    try:
        process = await trio.lowlevel.open_process(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=slot,
            start_new_session=True,  # so that a time-out ends its children, too
        )
    except OSError as problem:
        return ProbeResult(passed=False, detail=f"{argv[0]}: {problem.strerror}")
    try:
        output = await _tail(process)
        status = await process.wait()
    finally:
        _kill_group(process.pid)
        with trio.move_on_after(_KILL_SECONDS, shield=True):
            await process.wait()
        if process.stdout is not None:
            await trio.aclose_forcefully(process.stdout)
    detail = " ".join(output[-DETAIL_CHARS:].split())
    return ProbeResult(passed=status == 0, detail=f"{Path(argv[0]).name} exited with {status}: {detail}".rstrip(": "))


async def _tail(process: trio.Process) -> str:
    """The last part of what the command printed, however much it was."""
    tail = b""
    if process.stdout is not None:
        async for chunk in process.stdout:
            tail = (tail + bytes(chunk))[-_OUTPUT_BYTES:]
    return tail.decode(errors="replace")


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


async def _get(check: HttpCheck) -> ProbeResult:
    # Local services mostly have certificates of their own making; the check asks for health, not for identity.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        async with (
            httpx.AsyncClient(verify=context, trust_env=False) as client,
            client.stream("GET", check.url, timeout=check.timeout_seconds) as answer,
        ):
            passed = answer.status_code == check.status
            return ProbeResult(passed=passed, detail=f"{check.url}: HTTP {answer.status_code}, expected {check.status}")
    except (httpx.HTTPError, httpx.InvalidURL) as problem:
        return ProbeResult(passed=False, detail=f"{check.url}: {problem or type(problem).__name__}")


async def _connect(check: TcpCheck) -> ProbeResult:
    try:
        stream = await trio.open_tcp_stream(check.host, check.port)
    except OSError as problem:
        return ProbeResult(passed=False, detail=f"{check.host}:{check.port}: {problem.strerror or problem}")
    await trio.aclose_forcefully(stream)
    return ProbeResult(passed=True, detail=f"{check.host}:{check.port} accepts connections")
