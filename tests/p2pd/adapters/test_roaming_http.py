# SPDX-License-Identifier: Apache-2.0
"""Connections end with the address that they leave from; all others go on."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from p2pd.adapters.roaming_http import RoamingConnections
from p2pd.host.http_server import Listener, serve_http
from p2pd.host.tls import client_context
from p2pd.ports_network import Whereabouts
from tests.fakes.certificates import TestAuthority

HERE = Whereabouts(present=frozenset({"127.0.0.1"}))
ELSEWHERE = Whereabouts(present=frozenset({"127.0.0.77"}))
SECONDS = 10.0


class Server:
    """Answers `/never` never, and everything else at once; notes who asks."""

    def __init__(self) -> None:
        self.url = ""
        self.is_asked = trio.Event()
        self.ports: list[int] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.ports.append(scope["client"][1])
        if scope["path"] == "/never":
            self.is_asked.set()
            await trio.sleep_forever()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def authority(tmp_path: Path) -> TestAuthority:
    return TestAuthority(tmp_path, "authority")


@pytest.fixture
async def server(authority: TestAuthority) -> AsyncIterator[Server]:
    files, server = authority.issue("server"), Server()
    listener = Listener(host="127.0.0.1", port=0, certificate=files.certificate, key=files.key)
    async with trio.open_nursery() as nursery:
        bound = await nursery.start(partial(serve_http, server, listener, drain_seconds=0.1))
        server.url = f"https://127.0.0.1:{bound[0][1]}"
        yield server
        nursery.cancel_scope.cancel()


async def test_a_request_on_a_dead_address_fails_at_once_and_the_next_one_goes_through(
    server: Server, authority: TestAuthority
) -> None:
    connections, has_failed = RoamingConnections(), trio.Event()
    async with connections.client(client_context(ca_pem=authority.pem)) as client, trio.open_nursery() as nursery:

        async def wait_for_news() -> None:
            with pytest.raises(httpx.TransportError):
                await client.get(f"{server.url}/never", timeout=60)
            has_failed.set()

        with trio.fail_after(SECONDS):
            nursery.start_soon(wait_for_news)
            await server.is_asked.wait()
            await connections.follow(HERE)
            assert not has_failed.is_set()
            await connections.follow(ELSEWHERE)
            await has_failed.wait()
            assert (await client.get(server.url)).text == "ok"


async def test_an_idle_connection_is_used_again_unless_its_address_went(
    server: Server, authority: TestAuthority
) -> None:
    connections = RoamingConnections()
    async with connections.client(client_context(ca_pem=authority.pem)) as client:
        with trio.fail_after(SECONDS):
            for here in (HERE, ELSEWHERE, HERE):
                assert (await client.get(server.url)).text == "ok"
                await connections.follow(here)
            assert (await client.get(server.url)).text == "ok"
    first, second, third, fourth = server.ports
    assert (first == second, second == third, third == fourth) == (True, False, True)


async def test_a_closed_client_leaves_nothing_to_hang_up(server: Server, authority: TestAuthority) -> None:
    connections = RoamingConnections()
    async with connections.client(client_context(ca_pem=authority.pem)) as client:
        assert (await client.get(server.url)).text == "ok"
    await connections.follow(ELSEWHERE)
