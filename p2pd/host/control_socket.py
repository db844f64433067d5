# SPDX-License-Identifier: Apache-2.0
"""Questions and orders to a daemon of ours over a Unix socket: JSON lines, for local users that the kernel names.

Request `{"verb": str, "arguments": {…}}`; reply `{"ok": {…}}` or `{"error": {"reason": code or null, "message": str}}`.
One connection may carry several requests, one after the other. Linux only: peers are known by SO_PEERCRED.
"""

import json
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import trio

from p2pd.host.telemetry import log
from p2pd.host.unix_listener import listening_at
from signing.errors import SigningError
from signing.reasons import Reason

MAX_LINE_BYTES = 1_048_576  # of a request
MAX_ANSWER_BYTES = 16 * 2**20  # 700 bytes a product, and there may be 10,000
MAX_CONNECTIONS = 32
IDLE_SECONDS = 30.0  # for the next request to arrive whole
SEND_SECONDS = 30.0

_log = log(__name__)

Handle = Callable[[str, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]


class ControlUnreachable(Exception):
    """Nobody answered at `path`: no daemon there, no right to ask, no answer in time."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem


class ControlRefused(Exception):
    """The daemon understood and said no; `reason` is its code, if it has one for this."""

    def __init__(self, reason: Reason | None, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class _Malformed(Exception):
    """What arrived is no request, or no reply."""


async def serve_requests(
    path: Path,
    handle: Handle,
    *,
    allowed_uids: frozenset[int] = frozenset(),
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer requests at `path` with what `handle(verb, arguments)` returns, until cancelled.

    Root, our own user and `allowed_uids` may ask. A SigningError or ControlRefused of `handle` becomes an error reply;
    any other exception is a bug and leaves. A handler runs to its end though its client has gone. Raises BadInput if
    another daemon serves at `path`, or nobody can.
    """
    allowed = allowed_uids | {0, os.geteuid()}
    open_connections = 0

    async def serve_one(stream: trio.SocketStream) -> None:
        nonlocal open_connections
        uid = _peer_uid(stream)
        if uid not in allowed:
            _log.warning("control request refused", uid=uid, path=str(path))
            await _send(stream, _error(None, f"user {uid} may not control this daemon; add it to allowed_uids"))
        elif open_connections >= MAX_CONNECTIONS:
            await _send(stream, _error(None, f"{MAX_CONNECTIONS} control connections are open already; try again"))
        else:
            open_connections += 1
            try:
                await _answer_all(stream, handle)
            finally:
                open_connections -= 1

    with listening_at(path, others_may_connect=bool(allowed_uids - {0, os.geteuid()})) as listener:
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, serve_one, [listener])
            task_status.started()


async def request(
    path: Path, verb: str, arguments: Mapping[str, Any] | None = None, *, timeout_seconds: float
) -> dict[str, Any]:
    """Ask the daemon at `path` and return its answer. Raises ControlUnreachable or ControlRefused."""
    question = _encode({"verb": verb, "arguments": dict(arguments or {})})
    try:
        with trio.fail_after(timeout_seconds):
            async with await trio.open_unix_socket(path) as stream:
                with suppress(trio.BrokenResourceError):  # it may refuse before it listens: its answer says why
                    await stream.send_all(question)
                line = await _Lines(stream, MAX_ANSWER_BYTES).next()
    except trio.TooSlowError:
        raise ControlUnreachable(path, f"no answer within {timeout_seconds:g} s") from None
    except FileNotFoundError:
        raise ControlUnreachable(path, "no such socket; is the daemon running?") from None
    except ConnectionRefusedError:
        raise ControlUnreachable(path, "nobody listens there; is the daemon running?") from None
    except PermissionError:
        raise ControlUnreachable(path, "permission denied; ask as root or as the daemon's user") from None
    except (OSError, trio.BrokenResourceError) as problem:
        raise ControlUnreachable(path, str(problem)) from problem
    except _Malformed as problem:
        raise ControlUnreachable(path, f"answered with something else than a reply ({problem})") from None
    if line is None:
        raise ControlUnreachable(path, "the daemon closed the connection without an answer")
    return _read_reply(path, line)


def _read_reply(path: Path, line: bytes) -> dict[str, Any]:
    try:
        match _decode(line):
            case {"ok": dict(answer)}:
                return answer
            case {"error": {"reason": str() | None as code, "message": str(message)}}:
                # A newer daemon may have a code that we do not know: its sentence still says it all.
                known = code is not None and code in {reason.value for reason in Reason}
                raise ControlRefused(Reason(str(code)) if known else None, message)
    except _Malformed as problem:
        raise ControlUnreachable(path, f"answered with something else than a reply ({problem})") from None
    raise ControlUnreachable(path, "answered with something else than a reply")


async def _answer_all(stream: trio.SocketStream, handle: Handle) -> None:
    lines = _Lines(stream, MAX_LINE_BYTES)
    while True:
        with trio.move_on_after(IDLE_SECONDS) as waiting:
            try:
                line = await lines.next()
                if line is None:
                    return
                verb, arguments = _read_request(line)
            except trio.BrokenResourceError:
                return
            except _Malformed as problem:
                await _send(stream, _error(None, f"malformed request: {problem}"))
                return
        if waiting.cancelled_caught:
            return
        reply = await _reply(handle, verb, arguments)
        if not await _send(stream, reply):
            return


async def _reply(handle: Handle, verb: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        return {"ok": dict(await handle(verb, arguments))}
    except SigningError as problem:
        return _error(problem.reason, str(problem))
    except ControlRefused as refusal:
        return _error(refusal.reason, refusal.message)


def _read_request(line: bytes) -> tuple[str, Mapping[str, Any]]:
    match _decode(line):
        case {"verb": str(verb), "arguments": dict(arguments), **rest} if not rest:
            return verb, arguments
    raise _Malformed('expected {"verb": text, "arguments": {…}} and no other key')


async def _send(stream: trio.SocketStream, reply: Mapping[str, Any]) -> bool:
    """Send `reply`; False if the peer is gone or does not read."""
    data = _encode(reply)
    if len(data) > MAX_ANSWER_BYTES:
        _log.error("control answer too large", bytes=len(data))
        data = _encode(_error(None, f"the answer takes {len(data)} bytes, more than the {MAX_ANSWER_BYTES} of a line"))
    with trio.move_on_after(SEND_SECONDS):
        try:
            await stream.send_all(data)
        except trio.BrokenResourceError:
            return False
        return True
    return False


def _error(reason: Reason | None, message: str) -> dict[str, Any]:
    return {"error": {"reason": reason, "message": message}}


def _encode(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def _decode(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as problem:
        raise _Malformed(f"not JSON: {problem}") from None


def _peer_uid(stream: trio.SocketStream) -> int:
    credentials = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    uid: int = struct.unpack("3i", credentials)[1]  # struct ucred: pid, uid, gid
    return uid


class _Lines:
    """Lines of a stream, none longer than `most` bytes."""

    def __init__(self, stream: trio.abc.ReceiveStream, most: int) -> None:
        self._stream = stream
        self._most = most
        self._buffer = bytearray()

    async def next(self) -> bytes | None:
        """Return the next line, or None if the stream ends between lines. Raises _Malformed."""
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > self._most:
                raise _Malformed(f"a line longer than {self._most} bytes")
            data = await self._stream.receive_some()
            if not data:
                if self._buffer:
                    raise _Malformed("the stream ended within a line")
                return None
            self._buffer += data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line
