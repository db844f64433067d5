# SPDX-License-Identifier: Apache-2.0
"""Tests of p2pd.host.control_socket and unix_listener."""

import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from p2pd.host import control_socket
from p2pd.host.control_socket import ControlRefused, ControlUnreachable, request, serve_requests
from signing.errors import BadInput, Recalled
from signing.reasons import Reason

Handle = Callable[[str, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "p2pd.sock"


async def echo(verb: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"verb": verb, "arguments": dict(arguments)}


@asynccontextmanager
async def serving(path: Path, handle: Handle = echo, **options: Any) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve_requests, path, handle, **options))
        yield
        nursery.cancel_scope.cancel()


async def ask(path: Path, verb: str = "status", arguments: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return await request(path, verb, arguments, timeout_seconds=5)


async def raw(path: Path, data: bytes) -> list[Any]:
    """Send bytes, end the sending side, and return all replies."""
    async with await trio.open_unix_socket(path) as stream:
        received = b""
        try:
            await stream.send_all(data)
            await stream.send_eof()
        except trio.BrokenResourceError:
            pass  # refused before all of it was read
        with trio.fail_after(30):
            async for chunk in stream:
                received += chunk
    return [json.loads(line) for line in received.splitlines()]


async def test_a_question_and_its_answer(path: Path) -> None:
    async with serving(path):
        assert await ask(path) == {"verb": "status", "arguments": {}}
        answer = await ask(path, "why", {"product": "tzdata", "text": "żółw\n"})
        assert answer["arguments"] == {"product": "tzdata", "text": "żółw\n"}


async def test_several_requests_on_one_connection(path: Path) -> None:
    line = b'{"verb": "status", "arguments": {}}\n'
    async with serving(path):
        assert len(await raw(path, line * 3)) == 3


async def test_permissions(path: Path) -> None:
    async with serving(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_it_removes_its_socket_at_the_end(path: Path) -> None:
    async with serving(path):
        assert path.is_socket()
    assert not path.exists()


async def test_it_does_not_remove_a_successors_socket(path: Path) -> None:
    async with serving(path):
        path.unlink()
        with socket.socket(socket.AF_UNIX) as successor:
            successor.bind(str(path))
            inode = path.stat().st_ino
    assert path.stat().st_ino == inode


async def test_refusals_carry_their_reason(path: Path) -> None:
    async def refuse(verb: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        if verb == "recalled":
            raise Recalled("tzdata 1 was withdrawn")
        raise ControlRefused(Reason.DISK_FULL if verb == "full" else None, f"no {verb}")

    async with serving(path, refuse):
        for verb, reason in (("recalled", Reason.RECALLED), ("full", Reason.DISK_FULL), ("tea", None)):
            with pytest.raises(ControlRefused) as refused:
                await ask(path, verb)
            assert refused.value.reason is reason
        assert refused.value.message == "no tea"


async def test_a_bug_in_a_handler_escapes(path: Path) -> None:
    async def bug(verb: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        raise TypeError("our own fault")

    async def provoke() -> None:
        async with serving(path, bug):
            with suppress(ControlUnreachable):
                await ask(path)
            await trio.sleep_forever()  # the bug ends this, and nothing else does

    with pytest.raises(BaseExceptionGroup) as escaped:
        await provoke()
    assert escaped.group_contains(TypeError, match="our own fault")


@pytest.mark.parametrize(
    "line",
    [
        b"hello\n",
        b"[]\n",
        b"{}\n",
        b'{"verb": 5, "arguments": {}}\n',
        b'{"verb": "x", "arguments": []}\n',
        b'{"verb": "x", "arguments": {}, "more": 1}\n',
        b'{"verb": "x"}\n',
        b"\xff\n",
        b"[" * 100_000 + b"\n",
        b'{"verb": "status", "argum',
        b"x" * (control_socket.MAX_LINE_BYTES + 1) + b"\n",
    ],
    ids=lambda line: repr(line[:20]),
)
async def test_malformed_requests_are_answered_and_survived(path: Path, line: bytes) -> None:
    async with serving(path):
        replies = await raw(path, line)
        assert [reply["error"]["reason"] for reply in replies] == [None]
        assert replies[0]["error"]["message"].startswith("malformed request: ")
        assert (await ask(path))["verb"] == "status"


async def test_a_line_without_end_is_cut_off_and_survived(path: Path) -> None:
    async with serving(path):
        async with await trio.open_unix_socket(path) as stream:
            with trio.fail_after(30), pytest.raises(trio.BrokenResourceError):
                await stream.send_all(b"x" * (16 * control_socket.MAX_LINE_BYTES))
        assert (await ask(path))["verb"] == "status"


async def test_an_answer_too_large_for_a_line_becomes_an_error(path: Path) -> None:
    async def large(verb: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"text": "x" * control_socket.MAX_ANSWER_BYTES}

    with capture_logs():
        async with serving(path, large):
            with pytest.raises(ControlRefused, match="more than the 16777216 of a line"):
                await ask(path)


async def test_a_handler_outlives_its_client(path: Path) -> None:
    done, go_on = trio.Event(), trio.Event()

    async def slow(verb: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        await go_on.wait()
        done.set()
        return {}

    async with serving(path, slow):
        with pytest.raises(ControlUnreachable, match=r"no answer within 0\.01 s"):
            await request(path, "install", timeout_seconds=0.01)
        go_on.set()
        with trio.fail_after(30):
            await done.wait()


async def test_a_silent_client_is_dropped(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_socket, "IDLE_SECONDS", 0.02)
    async with serving(path), await trio.open_unix_socket(path) as stream:
        await stream.send_all(b'{"verb": ')
        with trio.fail_after(30):
            assert await stream.receive_some() == b""


async def test_a_client_that_does_not_read_is_dropped(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_socket, "SEND_SECONDS", 0.02)

    async def large(verb: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"text": "x" * 1_000_000}

    async with serving(path, large), await trio.open_unix_socket(path) as stream:
        await stream.send_all(b'{"verb": "x", "arguments": {}}\n' * 2)
        await trio.sleep(0.1)  # longer than it is waited for
        received = 0
        with trio.fail_after(30):
            async for chunk in stream:
                received += len(chunk)
        assert received < 1_000_000


async def test_connections_are_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_socket, "MAX_CONNECTIONS", 1)
    async with serving(path):
        async with await trio.open_unix_socket(path) as first:
            await first.send_all(b'{"verb": "x", "arguments": {}}\n')
            await first.receive_some()
            with pytest.raises(ControlRefused, match="1 control connections are open already"):
                await ask(path)
        with trio.fail_after(30):
            while True:  # the server notices the departure in its own time
                try:
                    await ask(path)
                    break
                except ControlRefused:
                    continue


async def test_a_refusal_is_heard_by_who_still_talks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_socket, "_peer_uid", lambda stream: 12_345)
    with capture_logs():
        async with serving(path):
            with pytest.raises(ControlRefused, match="user 12345"):
                await ask(path, "install", {"text": "x" * 900_000})


async def test_strangers_are_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_socket, "_peer_uid", lambda stream: 12_345)
    with capture_logs() as lines:
        async with serving(path):
            with pytest.raises(ControlRefused, match="user 12345 may not control this daemon; add it to allowed_uids"):
                await ask(path)
    assert lines[0]["uid"] == 12_345


async def test_allow_listed_users_may_open_the_socket(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_socket, "_peer_uid", lambda stream: 12_345)
    async with serving(path, allowed_uids=frozenset({12_345})):
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o711
        assert (await ask(path))["verb"] == "status"


_ASK_AS_ANOTHER = """
import os, sys, trio
from pathlib import Path
from p2pd.host.control_socket import ControlRefused, ControlUnreachable, request

async def main():
    os.setgid(4_000)
    os.setuid(4_000)
    await request(Path(sys.argv[1]), "status", timeout_seconds=5)

try:
    trio.run(main)
except (ControlRefused, ControlUnreachable) as problem:
    print(type(problem).__name__)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user takes root")
@pytest.mark.parametrize(
    ("allowed", "outcome"),
    [(frozenset(), b"ControlUnreachable\n"), (frozenset({4_001}), b"ControlRefused\n"), (frozenset({4_000}), b"")],
)
async def test_the_kernel_tells_who_asks(allowed: frozenset[int], outcome: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory, capture_logs():
        Path(directory).chmod(0o711)  # so that the other user gets as far as the socket
        path = Path(directory, "control")
        async with serving(path, allowed_uids=allowed):
            command = [sys.executable, "-c", _ASK_AS_ANOTHER, str(path)]
            done = await trio.run_process(command, capture_stdout=True)
    assert done.stdout == outcome


async def test_nobody_there(path: Path) -> None:
    with pytest.raises(ControlUnreachable, match="no such socket; is the daemon running"):
        await ask(path)
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(ControlUnreachable, match="nobody listens there"):
        await ask(path)


@pytest.mark.parametrize("reply", [b"hello\n", b"{}\n", b'{"error": "no"}\n', b'{"ok": {', b'{"ok": []}\n'])
async def test_a_reply_that_is_none(tmp_path: Path, reply: bytes) -> None:
    path = tmp_path / "s"
    with trio.socket.socket(socket.AF_UNIX) as other:
        await other.bind(str(path))
        other.listen()

        async def answer_once() -> None:
            connection, _ = await other.accept()
            with connection:
                await connection.recv(1_000)
                await connection.send(reply)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer_once)
            with pytest.raises(ControlUnreachable, match="something else than a reply"):
                await ask(path)


async def test_a_reason_of_a_newer_daemon_keeps_its_sentence(tmp_path: Path) -> None:
    line = b'{"error": {"reason": "unheard_of", "message": "the moon is full"}}'
    with pytest.raises(ControlRefused, match="the moon is full") as refused:
        control_socket._read_reply(tmp_path, line)
    assert refused.value.reason is None


_DAEMON = """
import sys, trio
from functools import partial
from pathlib import Path
from p2pd.host.control_socket import serve_requests

async def handle(verb, arguments):
    return {}

async def main():
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve_requests, Path(sys.argv[1]), handle))
        print("ready", flush=True)

trio.run(main)
"""


def leave_a_dead_socket(path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", _DAEMON, str(path)], stdout=subprocess.PIPE) as daemon:
        assert daemon.stdout is not None
        assert daemon.stdout.readline() == b"ready\n"
        daemon.kill()
    assert path.is_socket()


async def test_what_a_killed_daemon_left_is_replaced(path: Path) -> None:
    leave_a_dead_socket(path)
    async with serving(path):
        assert (await ask(path))["verb"] == "status"


async def test_a_living_daemon_is_left_alone(path: Path) -> None:
    async with serving(path):
        with pytest.raises(BadInput, match="another daemon is listening there; stop it, or configure another path"):
            await serve_requests(path, echo)
        assert (await ask(path))["verb"] == "status"


async def test_a_living_daemon_with_a_full_backlog_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(str(path))
        busy.listen(0)
        waiting.connect(str(path))
        with pytest.raises(BadInput, match="another daemon is listening"):
            await serve_requests(path, echo)


async def test_a_file_that_is_no_socket_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("precious")
    with pytest.raises(BadInput, match="exists and is no socket; remove it"):
        await serve_requests(path, echo)
    assert path.read_text() == "precious"


async def test_a_path_too_long_for_a_socket(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="longer than the 107 bytes"):
        await serve_requests(tmp_path / ("x" * 108), echo)


async def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="cannot listen there"):
        await serve_requests(tmp_path / "file" / "s", echo)
