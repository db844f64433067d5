# SPDX-License-Identifier: Apache-2.0
"""Tests of p2pd.host.http_server: what well-behaved clients get, and how it ends."""

import json
import ssl
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from structlog.testing import capture_logs

from p2pd.host.http_bounds import Receive, Send
from p2pd.host.http_server import Listener, serve_http
from p2pd.host.telemetry import AsgiApp
from p2pd.host.tls import client_context
from signing.errors import BadInput
from tests.fakes.certificates import TestAuthority

LOOPBACK = Listener(host="127.0.0.1", port=0)


async def answer(send: Send, body: bytes) -> None:
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def echo(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    """Answer with path and body."""
    message = await receive()
    assert not message["more_body"]
    await answer(send, json.dumps([scope["path"], len(message["body"])]).encode())


@asynccontextmanager
async def serving(
    app: AsgiApp, listener: Listener = LOOPBACK, *, drain_seconds: float = 5.0
) -> AsyncIterator[tuple[int, trio.CancelScope]]:
    """Serve while the block lasts; yield the port, and the scope whose cancelling asks for shutdown."""
    async with trio.open_nursery() as nursery:
        [(host, port)] = await nursery.start(partial(serve_http, app, listener, drain_seconds=drain_seconds))
        assert host == "127.0.0.1"
        yield port, nursery.cancel_scope
        nursery.cancel_scope.cancel()


async def test_requests_are_answered_over_one_connection() -> None:
    async with serving(echo) as (port, _), httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        assert (await client.get("/a")).json() == ["/a", 0]
        second = await client.post("/b", content=b"x" * 100_000)
        assert second.json() == ["/b", 100_000]
        assert "server" not in second.headers


async def test_tls_and_client_certificates(tmp_path: Path) -> None:
    authority = TestAuthority(tmp_path, "ours")
    ours, device = authority.issue("server"), authority.issue("device")
    listener = Listener(host="127.0.0.1", port=0, certificate=ours.certificate, key=ours.key, client_ca=authority.file)
    with_certificate = client_context(ca_pem=authority.pem, certificate=device.certificate, key=device.key)
    async with serving(echo, listener) as (port, _):
        base = f"https://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=base, verify=with_certificate) as client:
            assert (await client.get("/a")).json() == ["/a", 0]
        async with httpx.AsyncClient(base_url=base, verify=client_context(ca_pem=authority.pem)) as client:
            with pytest.raises(httpx.TransportError):
                await client.get("/a")


async def test_without_client_ca_anyone_may_come(tmp_path: Path) -> None:
    authority = TestAuthority(tmp_path, "ours")
    ours = authority.issue("server")
    listener = Listener(host="127.0.0.1", port=0, certificate=ours.certificate, key=ours.key)
    async with serving(echo, listener) as (port, _):
        context: ssl.SSLContext = client_context(ca_pem=authority.pem)
        async with httpx.AsyncClient(base_url=f"https://127.0.0.1:{port}", verify=context) as client:
            assert (await client.get("/a")).json() == ["/a", 0]


async def test_a_port_in_use_is_named_with_a_remedy() -> None:
    async with serving(echo) as (port, _):
        with pytest.raises(BadInput, match=rf"127\.0\.0\.1:{port}: the port is in use; stop the program"):
            await serve_http(echo, Listener(host="127.0.0.1", port=port), drain_seconds=0)


async def test_an_address_of_another_machine() -> None:
    with pytest.raises(BadInput, match=r"192\.0\.2\.1:0: no interface of this machine has this address"):
        await serve_http(echo, Listener(host="192.0.2.1", port=0), drain_seconds=0)


async def test_a_name_that_does_not_resolve() -> None:
    with pytest.raises(BadInput, match=r"no-such-host\.invalid:0: cannot listen \("):
        await serve_http(echo, Listener(host="no-such-host.invalid", port=0), drain_seconds=0)


async def test_a_certificate_that_is_missing_binds_nothing(tmp_path: Path) -> None:
    listener = Listener(host="127.0.0.1", port=0, certificate=tmp_path / "c", key=tmp_path / "k")
    with pytest.raises(BadInput, match="cannot be read"):
        await serve_http(echo, listener, drain_seconds=0)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"host": ""}, "explicit 0.0.0.0"),
        ({"port": 65_536}, "between 0 and 65535"),
        ({"port": -1}, "between 0 and 65535"),
        ({"key": Path("k")}, "go together"),
        ({"client_ca": Path("ca")}, "takes a certificate and key"),
    ],
)
def test_listeners_that_make_no_sense(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Listener(**{"host": "127.0.0.1", "port": 0, **fields})


async def test_a_failing_application_answers_500_and_is_logged() -> None:
    async def fails(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        raise RuntimeError("our own fault")

    async with serving(fails) as (port, _), httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        with capture_logs() as lines:
            assert (await client.get("/a")).status_code == 500
    assert [(line["log_level"], line["event"]) for line in lines] == [("error", "request failed")]


async def test_shutdown_lets_open_requests_finish() -> None:
    inside, go_on = trio.Event(), trio.Event()

    async def slow(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        inside.set()
        await go_on.wait()
        await answer(send, b"done")

    answers: list[str] = []

    async def ask(port: int) -> None:
        async with httpx.AsyncClient() as client:
            answers.append((await client.get(f"http://127.0.0.1:{port}/")).text)

    async with trio.open_nursery() as clients, serving(slow) as (port, shutdown):
        clients.start_soon(ask, port)
        await inside.wait()
        shutdown.cancel()
        with trio.CancelScope(shield=True), trio.fail_after(30):
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(OSError, match="all attempts to connect"):  # it accepts nobody any more
                await trio.open_tcp_stream("127.0.0.1", port)
            assert answers == []
            go_on.set()
    assert answers == ["done"]


async def test_shutdown_closes_idle_connections_at_once() -> None:
    with trio.fail_after(30):  # far less than the drain
        async with httpx.AsyncClient() as client, serving(echo, drain_seconds=60) as (port, _):
            assert (await client.get(f"http://127.0.0.1:{port}/")).status_code == 200


async def test_shutdown_cuts_what_does_not_end() -> None:
    async def never(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        await trio.sleep_forever()

    with trio.fail_after(30), capture_logs() as lines:
        async with serving(never, drain_seconds=0.05) as (port, _):
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await trio.testing.wait_all_tasks_blocked(0.01)
        await stream.aclose()
    assert lines[-1]["event"] == "cutting off requests that did not finish in time"
    assert lines[-1]["connections"] == 1
