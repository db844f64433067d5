# SPDX-License-Identifier: Apache-2.0
"""Connections for long bodies against a real server on loopback, in the clear and with TLS."""

from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from p2pd.adapters.http_lines import LineBroken, Lines
from p2pd.adapters.roaming_http import RoamingConnections
from p2pd.host.http_server import Listener, serve_http
from p2pd.host.tls import client_context
from p2pd.ports_network import Whereabouts
from tests.fakes.certificates import TestAuthority

BODY = bytes(range(251)) * 4_001  # of no round size: more than is read at once, and many TLS records
SECONDS = 10.0


@dataclass
class Server:
    """Sends BODY; half of it on `/half` and then nothing; `ports` are those of who asked."""

    url: str = ""
    ports: list[int] = field(default_factory=list)
    has_sent: trio.Event = field(default_factory=trio.Event)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.ports.append(scope["client"][1])
        length = str(len(BODY)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        if scope["path"].endswith("/half"):
            await send({"type": "http.response.body", "body": BODY[: len(BODY) // 2], "more_body": True})
            self.has_sent.set()
            await trio.sleep_forever()
        await send({"type": "http.response.body", "body": BODY})


@dataclass
class World:
    """A server, and lines to it."""

    server: Server
    lines: Callable[..., Lines]
    restart: Callable[[], Any]


@pytest.fixture(params=["http", "https"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    authority, server = TestAuthority(tmp_path, "authority"), Server()
    files = authority.issue("server")
    context = client_context(ca_pem=authority.pem) if request.param == "https" else None
    certificate, key = (files.certificate, files.key) if context else (None, None)
    running: list[trio.CancelScope] = []
    stopped = trio.Event()
    port = 0

    async def serve(*, task_status: trio.TaskStatus[Any]) -> None:
        with trio.CancelScope() as scope:
            running.append(scope)
            listener = Listener(host="127.0.0.1", port=port, certificate=certificate, key=key)
            await serve_http(server, listener, drain_seconds=0.1, task_status=task_status)
        stopped.set()

    async def restart() -> None:
        nonlocal stopped
        running[-1].cancel()
        await stopped.wait()
        stopped = trio.Event()
        await nursery.start(serve)

    async with trio.open_nursery() as nursery:
        ((_, port),) = await nursery.start(serve)
        server.url = f"{request.param}://127.0.0.1:{port}/at"
        with trio.fail_after(SECONDS):
            yield World(server, partial(Lines, server.url, context=context), restart)
        nursery.cancel_scope.cancel()


async def read(lines: Lines, path: str = "/all") -> bytes:
    body = bytearray()
    async with lines.answer(path, ()) as (status, line):
        assert status == 200
        while chunk := await line.body():
            body += chunk
    return bytes(body)


async def test_bodies_come_whole_over_one_connection(world: World) -> None:
    with closing(world.lines()) as lines:
        assert await read(lines) == BODY
        assert await read(lines) == BODY
    assert len(set(world.server.ports)) == 1


async def test_requests_at_once_have_a_connection_each(world: World) -> None:
    with closing(world.lines()) as lines:
        async with lines.answer("/all", ()), lines.answer("/all", ()):
            pass
    assert len(set(world.server.ports)) == 2


async def test_an_answer_that_was_left_costs_its_connection_and_no_other_answer(world: World) -> None:
    with closing(world.lines()) as lines:
        async with lines.answer("/all", ()) as (_, line):
            assert BODY.startswith(await line.body() or b"-")
        assert await read(lines) == BODY
    assert len(set(world.server.ports)) == 2


async def test_a_server_that_hung_up_meanwhile_is_dialled_again(world: World) -> None:
    with closing(world.lines()) as lines:
        assert await read(lines) == BODY
        await world.restart()
        assert await read(lines) == BODY


async def test_silence_ends_a_request(world: World) -> None:
    with closing(world.lines(silence=0.2)) as lines, pytest.raises(LineBroken, match="nothing came"):
        await read(lines, "/half")


async def test_a_request_can_be_cancelled_while_it_waits(world: World) -> None:
    with closing(world.lines()) as lines:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, lines, "/half")
            await world.server.has_sent.wait()
            nursery.cancel_scope.cancel()
        assert await read(lines) == BODY


async def test_nobody_there_is_said_with_the_cause(world: World) -> None:
    with closing(Lines("http://127.0.0.1:1", context=None)) as lines, pytest.raises(LineBroken, match="refused"):
        await read(lines)


async def test_a_body_that_ends_too_early_is_broken(world: World) -> None:
    with closing(world.lines()) as lines:
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises(LineBroken):
                    await read(lines, "/half")

            nursery.start_soon(ask)
            await world.server.has_sent.wait()
            await world.restart()


async def test_a_request_ends_with_the_address_that_it_leaves_from(world: World) -> None:
    connections = RoamingConnections()
    with closing(world.lines(opened=connections.watch)) as lines:
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises(LineBroken):
                    await read(lines, "/half")

            nursery.start_soon(ask)
            await world.server.has_sent.wait()
            await connections.follow(Whereabouts(present=frozenset({"127.0.0.1"})))
            await connections.follow(Whereabouts(present=frozenset({"127.0.0.77"})))
        assert await read(lines) == BODY


async def test_a_server_of_another_authority_is_not_believed(tmp_path: Path) -> None:
    authority, other = TestAuthority(tmp_path, "authority"), TestAuthority(tmp_path, "other")
    files = authority.issue("server")
    async with trio.open_nursery() as nursery:
        listener = Listener(host="127.0.0.1", port=0, certificate=files.certificate, key=files.key)
        ((_, port),) = await nursery.start(partial(serve_http, Server(), listener, drain_seconds=0.1))
        lines = Lines(f"https://127.0.0.1:{port}", context=client_context(ca_pem=other.pem))
        with pytest.raises(LineBroken, match="certificate verify failed"):
            await read(lines)
        nursery.cancel_scope.cancel()
