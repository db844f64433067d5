# SPDX-License-Identifier: Apache-2.0
"""Tests of p2pd.host.http_connection and http_bounds: peers that try to hold, flood or crash the server."""

from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
import trio
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from p2pd.host.http_bounds import HttpLimits, Receive, Send
from p2pd.host.http_server import Listener
from p2pd.host.tls import client_context
from tests.fakes.certificates import TestAuthority
from tests.p2pd.host.test_http_server import answer, echo, serving

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
GET_AND_CLOSE = b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def listening(**limits: Any) -> Listener:
    return Listener(host="127.0.0.1", port=0, limits=HttpLimits(**limits))


def refusals(cause: str) -> float:
    return REGISTRY.get_sample_value("p2pd_http_refusals_total", {"cause": cause}) or 0.0


@asynccontextmanager
async def dialled(port: int) -> AsyncIterator[trio.SocketStream]:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        yield stream


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    """Read until the other side ends it, by a close or a reset."""
    received = bytearray()
    with trio.fail_after(30):
        try:
            async for chunk in stream:
                received += chunk
        except trio.BrokenResourceError:
            pass
    return bytes(received)


async def assert_alive(port: int) -> None:
    async with dialled(port) as stream:
        await stream.send_all(GET_AND_CLOSE)
        assert b'["/a", 0]' in await read_all(stream)


async def endless(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    """An answer far larger than all buffers between."""
    await answer(send, bytes(50_000_000))


@pytest.mark.parametrize(
    "opening",
    [
        b"",
        b"GET / HT",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
    ],
)
async def test_an_unfinished_request_does_not_hold_shutdown(opening: bytes) -> None:
    with trio.fail_after(30):
        async with serving(echo, drain_seconds=0.05) as (port, shutdown), dialled(port) as stream:
            await stream.send_all(opening)
            await trio.testing.wait_all_tasks_blocked(0.01)
            shutdown.cancel()


@pytest.mark.parametrize("tls", [False, True])
async def test_a_peer_that_stops_reading_does_not_hold_shutdown(tls: bool, tmp_path: Any) -> None:
    authority = TestAuthority(tmp_path, "ours")
    ours = authority.issue("server")
    listener = Listener(host="127.0.0.1", port=0, certificate=ours.certificate, key=ours.key) if tls else listening()
    with trio.fail_after(30):
        async with serving(endless, listener, drain_seconds=0.05) as (port, shutdown), dialled(port) as raw:
            stream: trio.abc.Stream = raw
            if tls:
                stream = trio.SSLStream(raw, client_context(ca_pem=authority.pem), server_hostname="127.0.0.1")
            await stream.send_all(GET)
            await stream.receive_some(1)  # the answer has begun
            await trio.testing.wait_all_tasks_blocked(0.01)
            shutdown.cancel()


async def test_a_peer_that_stops_reading_is_cut_and_others_go_on() -> None:
    before = refusals("stalled")

    async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        await (echo if scope["path"] == "/a" else endless)(scope, receive, send)

    async with serving(app, listening(stalled_seconds=0.1)) as (port, _), dialled(port) as stream:
        await stream.send_all(GET.replace(b"/a", b"/b"))
        with trio.fail_after(30):
            while refusals("stalled") == before:
                await assert_alive(port)
        assert len(await read_all(stream)) < 50_000_000


async def test_a_slow_reader_that_makes_progress_gets_all() -> None:
    body = bytes(3_000_000)

    async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        await answer(send, body)

    async with serving(app, listening(stalled_seconds=0.2)) as (port, _), dialled(port) as stream:
        stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 65_536)
        await stream.send_all(GET_AND_CLOSE)
        received, began = 0, trio.current_time()
        with trio.fail_after(30):
            while chunk := await stream.receive_some(200_000):
                received += len(chunk)
                await trio.sleep(0.01)
        assert received > len(body)
        assert trio.current_time() - began > 0.15


async def test_an_idle_connection_is_closed() -> None:
    async with serving(echo, listening(idle_seconds=0.05)) as (port, _), dialled(port) as stream:
        assert await read_all(stream) == b""


async def drip(stream: trio.SocketStream, drop: bytes) -> None:
    while True:
        await stream.send_all(drop)
        await trio.sleep(0.01)


async def test_headers_in_drops_run_out_of_time() -> None:
    async with serving(echo, listening(idle_seconds=0.1)) as (port, _), dialled(port) as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\n")
        with trio.fail_after(30), pytest.raises(trio.BrokenResourceError):
            await drip(stream, b"X-Drop: 1\r\n")


async def test_headers_without_end_are_refused() -> None:
    async with serving(echo, listening(max_header_bytes=1_000)) as (port, _), dialled(port) as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nX: " + b"x" * 2_000)
        assert (await read_all(stream)).startswith(b"HTTP/1.1 431 ")
        await assert_alive(port)


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 101\r\n\r\n" + b"x" * 101,
        b"Content-Length: 99999999999999999999\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n" + b"32\r\n" + b"x" * 50 + b"\r\n33\r\n" + b"x" * 51 + b"\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 101 + b"0\r\n\r\n",
    ],
)
async def test_a_body_too_large_is_refused_in_words(body: bytes) -> None:
    before = refusals("body_size")
    async with serving(echo, listening(max_body_bytes=100, linger_seconds=0.1)) as (port, _), dialled(port) as stream:
        await stream.send_all(b"POST /a HTTP/1.1\r\nHost: x\r\n" + body)
        received = await read_all(stream)
        assert received.startswith(b"HTTP/1.1 413 ")
        assert b'{"reason": "request_too_large", "message": "the request is larger' in received
        await assert_alive(port)
    assert refusals("body_size") == before + 1


async def test_a_body_within_bounds_arrives_whole() -> None:
    async with serving(echo, listening(max_body_bytes=100)) as (port, _), dialled(port) as stream:
        await stream.send_all(b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
        await stream.send_all(b"1\r\nx\r\n" * 100 + b"0\r\n\r\n")
        assert b'["/a", 100]' in await read_all(stream)


async def test_a_body_that_does_not_come_is_refused_in_words() -> None:
    async with serving(echo, listening(body_seconds=0.05)) as (port, _), dialled(port) as stream:
        await stream.send_all(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
        with trio.fail_after(30):
            received = b""
            while b"did not arrive within 0.05 s" not in received:
                received += await stream.receive_some()
        assert received.startswith(b"HTTP/1.1 408 ")
        await stream.send_eof()  # the peer gives up: no need to linger
        await read_all(stream)


@pytest.mark.parametrize("how", ["close", "half-close"])
async def test_a_peer_that_leaves_within_its_body_is_forgotten(how: str) -> None:
    with capture_logs() as lines, trio.fail_after(30):
        await _leave_within_a_body(how)
    assert [line for line in lines if line["log_level"] in ("warning", "error")] == []


async def _leave_within_a_body(how: str) -> None:
    async with serving(echo, drain_seconds=60) as (port, shutdown):
        async with dialled(port) as stream:
            await stream.send_all(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
            if how == "half-close":
                await stream.send_eof()
                await read_all(stream)
        await assert_alive(port)
        shutdown.cancel()


async def test_connections_beyond_the_bound_are_closed() -> None:
    before = refusals("connections")
    async with serving(echo, listening(max_connections=2)) as (port, _):
        async with dialled(port) as one, dialled(port) as two:
            for stream in (one, two):
                await stream.send_all(GET)
                await stream.receive_some()
            async with dialled(port) as three:
                assert await read_all(three) == b""
        assert refusals("connections") == before + 1
        with trio.fail_after(30):
            while True:  # the server notices the departures in its own time
                async with dialled(port) as stream:
                    try:
                        await stream.send_all(GET)
                        if await stream.receive_some():
                            break
                    except trio.BrokenResourceError:
                        pass


@pytest.mark.parametrize(
    ("opening", "cause"),
    [
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "http2"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\n", "http2"),
        (
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n"
            b"HTTP2-Settings: A\r\n\r\n",
            "protocol",
        ),
        (
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
            "websocket",
        ),
    ],
)
async def test_other_protocols_are_refused_and_the_server_lives(opening: bytes, cause: str) -> None:
    before = refusals(cause)
    async with serving(echo) as (port, _), dialled(port) as stream:
        await stream.send_all(opening)
        assert b" 200 " not in await read_all(stream)
        await assert_alive(port)
    assert refusals(cause) == before + 1


@pytest.mark.parametrize(
    "noise", [b"\x16\x03\x01\x02\x00\x01", b"\x00" * 100, b"GET\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\r\n" * 50]
)
async def test_noise_is_survived(noise: bytes) -> None:
    async with serving(echo, listening(idle_seconds=0.1)) as (port, _), dialled(port) as stream:
        await stream.send_all(noise)
        assert b" 200 " not in await read_all(stream)
        await assert_alive(port)


async def test_plain_http_to_a_tls_port_is_a_refused_handshake(tmp_path: Any) -> None:
    ours = TestAuthority(tmp_path, "ours").issue("server")
    before = refusals("handshake")
    listener = Listener(host="127.0.0.1", port=0, certificate=ours.certificate, key=ours.key)
    async with serving(echo, listener) as (port, _), dialled(port) as stream:
        await stream.send_all(GET)
        assert b"200" not in await read_all(stream)
    assert refusals("handshake") == before + 1


async def test_a_handshake_that_does_not_come_runs_out_of_time(tmp_path: Any) -> None:
    ours = TestAuthority(tmp_path, "ours").issue("server")
    limits = HttpLimits(handshake_seconds=0.05)
    listener = Listener(host="127.0.0.1", port=0, certificate=ours.certificate, key=ours.key, limits=limits)
    async with serving(echo, listener) as (port, _), dialled(port) as stream:
        assert await read_all(stream) == b""


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with serving(echo) as (port, _), dialled(port) as stream:
        await stream.send_all(GET + GET.replace(b"/a", b"/b") + GET_AND_CLOSE.replace(b"/a", b"/c"))
        received = await read_all(stream)
    positions = [received.index(path) for path in (b'"/a"', b'"/b"', b'"/c"')]
    assert positions == sorted(positions)


async def test_head_and_body_of_a_small_answer_come_together() -> None:
    async with serving(echo) as (port, _), dialled(port) as stream:
        await stream.send_all(GET)
        assert (await stream.receive_some()).endswith(b'["/a", 0]')


@pytest.mark.parametrize("tls", [False, True])
async def test_large_bodies_come_as_they_were_sent(tls: bool, tmp_path: Any) -> None:
    body = bytes(range(256)) * 4_000
    cuts = (0, 1, 16_384, 16_385, 300_000, len(body))

    async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1024000")]})
        for start, end in pairwise(cuts):
            await send({"type": "http.response.body", "body": body[start:end], "more_body": end < len(body)})

    authority = TestAuthority(tmp_path, "ours")
    ours = authority.issue("server")
    listener = Listener(host="127.0.0.1", port=0, certificate=ours.certificate, key=ours.key) if tls else listening()
    async with serving(app, listener) as (port, _), dialled(port) as raw:
        stream: trio.abc.Stream = raw
        if tls:
            context = client_context(ca_pem=authority.pem)
            stream = trio.SSLStream(raw, context, server_hostname="127.0.0.1", https_compatible=True)
        await stream.send_all(GET_AND_CLOSE)
        head, _, received = (await read_all(stream)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert received == body


@pytest.mark.parametrize(
    ("method", "status", "headers"), [(b"HEAD", 200, [(b"content-length", b"7")]), (b"GET", 304, []), (b"GET", 204, [])]
)
async def test_answers_without_a_body_come_at_once(
    method: bytes, status: int, headers: list[tuple[bytes, bytes]]
) -> None:
    async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    async with serving(app) as (port, _), dialled(port) as stream:
        for _ in range(2):  # over the same connection
            await stream.send_all(GET.replace(b"GET", method))
            with trio.fail_after(30):
                assert (await stream.receive_some()).startswith(f"HTTP/1.1 {status} ".encode())


async def test_who_asks_first_whether_to_send_a_body_is_told() -> None:
    async with serving(echo) as (port, _), dialled(port) as stream:
        await stream.send_all(
            GET_AND_CLOSE.replace(b"GET", b"POST")[:-2] + b"Expect: 100-continue\r\nContent-Length: 4\r\n\r\n"
        )
        with trio.fail_after(30):
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 100 ")
        await stream.send_all(b"body")
        assert b'["/a", 4]' in await read_all(stream)


async def test_an_application_ends_when_the_peer_has_gone() -> None:
    ended = trio.Event()

    async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["path"] == "/a":
            await echo(scope, receive, send)
            return
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while True:
                await send({"type": "http.response.body", "body": bytes(100_000), "more_body": True})
        finally:
            ended.set()

    with capture_logs() as lines:
        async with serving(app) as (port, _):
            async with dialled(port) as stream:
                await stream.send_all(GET.replace(b"/a", b"/b"))
                await stream.receive_some()
            with trio.fail_after(30):
                await ended.wait()
            await assert_alive(port)
    assert [line for line in lines if line["log_level"] in ("warning", "error")] == []
