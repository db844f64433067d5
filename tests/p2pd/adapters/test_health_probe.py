# SPDX-License-Identifier: Apache-2.0
"""Health checks on real processes, HTTP servers and sockets: every outcome is a result, in its own time."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio

from p2pd.adapters.health_probe import SystemHealthProbe
from p2pd.host.http_server import Listener, serve_http
from signing.manifest import CommandCheck, HttpCheck, TcpCheck

PROBE = SystemHealthProbe()


def python(code: str, *arguments: str, timeout_seconds: float = 20.0) -> CommandCheck:
    return CommandCheck(argv=(sys.executable, "-c", code, *arguments), timeout_seconds=timeout_seconds)


async def test_a_command_runs_in_the_slot_and_is_told_where_that_is(tmp_path: Path) -> None:
    check = python("import os, sys; sys.exit(os.getcwd() != os.path.realpath(sys.argv[1]))", "{slot}")
    assert (await PROBE.run(check, slot=tmp_path)).passed


async def test_a_failing_command_says_what_it_printed_last(tmp_path: Path) -> None:
    result = await PROBE.run(python("print('x' * 200_000); raise SystemExit('no zone file')"), slot=tmp_path)
    assert not result.passed
    assert result.detail.endswith("no zone file")
    assert "exited with 1" in result.detail


async def test_a_command_that_is_not_there_is_a_failed_check(tmp_path: Path) -> None:
    result = await PROBE.run(CommandCheck(argv=("/nonexistent/check",)), slot=tmp_path)
    assert not result.passed
    assert "No such file" in result.detail


async def test_a_command_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = (
        'sleep 600 & echo $$ $! > "$0"; wait'  # a shell has started long before the limit, however busy the machine is
    )
    argv = ("/bin/sh", "-c", script, str(pids))
    result = await PROBE.run(CommandCheck(argv=argv, timeout_seconds=1.5), slot=tmp_path)
    assert not result.passed
    assert "no answer within 1.5 s" in result.detail
    gone, alive = psutil.wait_procs(_processes(pids.read_text().split()), timeout=30)
    assert not alive, gone


def _processes(pids: list[str]) -> list[psutil.Process]:
    assert len(pids) == 2
    return [psutil.Process(int(pid)) for pid in pids if psutil.pid_exists(int(pid))]


@asynccontextmanager
async def http_server(status: int) -> AsyncIterator[int]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"answer"})

    async with trio.open_nursery() as nursery:

        async def serve(*, task_status: trio.TaskStatus[Any]) -> None:
            await serve_http(app, Listener(host="127.0.0.1", port=0), drain_seconds=0.1, task_status=task_status)

        bound = await nursery.start(serve)
        yield bound[0][1]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("status", "passed"), [(200, True), (503, False)])
async def test_an_http_check_looks_at_the_status(tmp_path: Path, status: int, passed: bool) -> None:
    async with http_server(status) as port:
        result = await PROBE.run(HttpCheck(url=f"http://127.0.0.1:{port}/"), slot=tmp_path)
    assert result.passed is passed
    assert f"HTTP {status}" in result.detail


async def test_a_service_that_is_down_fails_both_kinds_of_checks(tmp_path: Path) -> None:
    async with http_server(200) as port:
        assert (await PROBE.run(TcpCheck(host="127.0.0.1", port=port), slot=tmp_path)).passed
    for check in (HttpCheck(url=f"http://127.0.0.1:{port}/"), TcpCheck(host="127.0.0.1", port=port)):
        result = await PROBE.run(check, slot=tmp_path)
        assert not result.passed
        assert result.detail
