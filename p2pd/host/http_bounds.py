# SPDX-License-Identifier: Apache-2.0
"""Bounds of what an HTTP peer may cost, and the whole request body before the application sees any of it."""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import trio
from prometheus_client import Counter

from p2pd.host.telemetry import AsgiApp
from signing.reasons import Reason, explain

REFUSALS = Counter("p2pd_http_refusals_total", "Connections and requests that were cut short, by cause.", ["cause"])

PEER = "p2pd.peer"
"""Where a request's scope names the peer: the subject of its certificate, if one was asked for, else its address."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class HttpLimits:
    """What one listener grants its peers."""

    max_connections: int = 4_096
    max_connections_each: int | None = None  # from one peer; see `PEER`
    max_header_bytes: int = 16_384
    max_body_bytes: int = 1_048_576
    handshake_seconds: float = 10.0  # for TLS
    idle_seconds: float = 20.0  # from the connection, or the last answer, to the end of a request's headers
    body_seconds: float = 30.0  # for the whole request body
    stalled_seconds: float = 60.0  # for the next 128 KiB of an answer to leave
    linger_seconds: float = 2.0  # after a refusal, for the peer to read it before the connection is cut


class Line(Protocol):
    """The connection that a request came by."""

    @property
    def peer(self) -> str:
        """With whom it is: see `PEER`."""

    @property
    def is_broken(self) -> bool:
        """Whether a send has failed: nothing reaches the peer any more."""

    def hang_up(self) -> None:
        """End it at once."""


class PeerGone(OSError):
    """Raised where an application sends more to a peer that has gone, as ASGI 2.4 says."""


class _Refused(Exception):
    def __init__(self, status: int, cause: str, reason: Reason | None, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.cause = cause
        self.reason = reason


class _Gone(Exception):
    """The peer left before its request was whole."""


def bounded(app: AsgiApp, limits: HttpLimits, line: Line) -> AsgiApp:
    """Wrap `app` for one connection: it gets each request with its body whole and within `limits`, or not at all.

    Applications get no lifespan events and no WebSockets. One that goes on sending when the peer has gone is ended by
    PeerGone, so that none has to listen for that while it sends.
    """

    async def guarded(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            REFUSALS.labels(cause="websocket").inc()
            line.hang_up()
            return
        try:
            body = await _read_body(scope, receive, limits)
        except _Gone:
            return
        except _Refused as refusal:
            REFUSALS.labels(cause=refusal.cause).inc()
            await _answer(refusal, send)
            with trio.move_on_after(limits.linger_seconds):
                await _discard(receive)
            line.hang_up()
            return
        pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return pending.pop() if pending else await receive()

        async def send_on(message: Message) -> None:
            if line.is_broken:
                raise PeerGone
            await send(message)

        scope[PEER] = line.peer
        scope["asgi"] = {**scope["asgi"], "spec_version": "2.4"}
        with suppress(PeerGone):
            await app(scope, replay, send_on)

    return guarded


async def _read_body(scope: MutableMapping[str, Any], receive: Receive, limits: HttpLimits) -> bytes:
    for name, value in scope["headers"]:
        if name == b"content-length" and int(value) > limits.max_body_bytes:  # h11 lets digits only through
            raise _too_large()
    body = bytearray()
    with trio.move_on_after(limits.body_seconds):
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise _Gone
            body += message.get("body", b"")
            if len(body) > limits.max_body_bytes:
                raise _too_large()
            if not message.get("more_body", False):
                return bytes(body)
    raise _Refused(408, "body_time", None, f"the request did not arrive within {limits.body_seconds:g} s")


def _too_large() -> _Refused:
    return _Refused(413, "body_size", Reason.REQUEST_TOO_LARGE, explain(Reason.REQUEST_TOO_LARGE))


async def _answer(refusal: _Refused, send: Send) -> None:
    text = json.dumps({"reason": refusal.reason, "message": str(refusal)}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(text)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    # The answer is whole, yet not marked so: Hypercorn would close at once, and what the peer still sends would meet
    # a closed socket, whose reset can overtake our answer.
    await send({"type": "http.response.body", "body": text, "more_body": True})


async def _discard(receive: Receive) -> None:
    while (await receive()).get("more_body", False):
        pass
