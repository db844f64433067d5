# SPDX-License-Identifier: Apache-2.0
"""The link between a site and its origin: a TCP proxy on loopback that can be slow, or cut."""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import trio

CHUNK_BYTES = 16_384


class Wan:
    """One link at `host`:`port`. `bytes_per_second` holds for everything towards the site together."""

    def __init__(self, nursery: trio.Nursery, host: str, port: int, server: tuple[str, int]) -> None:
        self.host = host
        self.port = port
        self.bytes_per_second = math.inf
        self._server = server
        self._scope: trio.CancelScope | None = None
        self._free_at = 0.0
        self._nursery = nursery

    async def restore(self) -> None:
        """Let connections through."""
        assert self._scope is None
        await self._nursery.start(self._serve)

    def cut(self) -> None:
        """Break all connections; new ones are refused."""
        assert self._scope is not None
        self._scope.cancel()
        self._scope = None

    async def _serve(self, *, task_status: trio.TaskStatus[None]) -> None:
        with trio.CancelScope() as self._scope:
            listeners = await trio.open_tcp_listeners(self.port, host=self.host)
            task_status.started()
            await trio.serve_listeners(self._connect, listeners)

    async def _connect(self, site: trio.SocketStream) -> None:
        async with site:
            try:
                server = await trio.open_tcp_stream(*self._server)
            except OSError:
                return  # the origin is away: so the site hears nothing
            async with server, trio.open_nursery() as both:
                both.start_soon(self._pass_on, site, server, both.cancel_scope)
                both.start_soon(self._pass_on_slowly, server, site, both.cancel_scope)

    async def _pass_on(self, source: trio.SocketStream, sink: trio.SocketStream, both: trio.CancelScope) -> None:
        with suppress(trio.BrokenResourceError):
            async for chunk in source:
                await sink.send_all(chunk)
        both.cancel()

    async def _pass_on_slowly(self, source: trio.SocketStream, sink: trio.SocketStream, both: trio.CancelScope) -> None:
        with suppress(trio.BrokenResourceError):
            while chunk := await source.receive_some(CHUNK_BYTES):
                await trio.sleep_until(self._turn(len(chunk)))
                await sink.send_all(chunk)
        both.cancel()

    def _turn(self, size: int) -> float:
        """When a chunk may go on: connections take turns on one link."""
        start = max(self._free_at, trio.current_time())
        self._free_at = start + size / self.bytes_per_second
        return self._free_at


@asynccontextmanager
async def open_wan(host: str, port: int, *, server: tuple[str, int]) -> AsyncIterator[Wan]:
    """A link that works at full speed until told otherwise, for as long as the block lasts."""
    async with trio.open_nursery() as nursery:
        wan = Wan(nursery, host, port, server)
        await wan.restore()
        yield wan
        nursery.cancel_scope.cancel()
