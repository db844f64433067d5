# SPDX-License-Identifier: Apache-2.0
"""A TCP proxy on loopback that keeps every byte that passes: what somebody on the wire would see."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import trio

HOST = "127.0.0.1"
CHUNK_BYTES = 65_536


@dataclass
class Wire:
    """Where to dial, and what has passed so far."""

    port: int = 0
    to_server: bytearray = field(default_factory=bytearray)
    to_client: bytearray = field(default_factory=bytearray)


@asynccontextmanager
async def open_recording_proxy(server_port: int) -> AsyncIterator[Wire]:
    """Passes connections on to `server_port` for as long as the block lasts."""
    wire = Wire()

    async def serve(client: trio.SocketStream) -> None:
        async with client, await trio.open_tcp_stream(HOST, server_port) as server, trio.open_nursery() as both:
            both.start_soon(_pass_on, client, server, wire.to_server)
            both.start_soon(_pass_on, server, client, wire.to_client)

    async with trio.open_nursery() as connections:
        listeners = await connections.start(partial(trio.serve_tcp, serve, 0, host=HOST))
        wire.port = listeners[0].socket.getsockname()[1]
        yield wire
        connections.cancel_scope.cancel()


async def _pass_on(source: trio.SocketStream, sink: trio.SocketStream, record: bytearray) -> None:
    try:
        async for chunk in source:
            record += chunk
            await sink.send_all(chunk)
        await sink.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return  # one side hung up hard; the other notices when it speaks
