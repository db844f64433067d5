# SPDX-License-Identifier: Apache-2.0
"""HTTP clients, and sockets of others, whose connections end with the address that they leave from.

A connection whose address was taken from the host hears nothing any more, not even of its end: without this, a long
poll would sit there for its 80 seconds, and an idle connection would swallow the next request. Connections from
addresses that stay are left alone, whatever else changes.

httpcore tells of new connections by its documented `trace` extension.
"""

import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from weakref import WeakSet

import httpcore
import httpx
import trio

from p2pd.ports_network import Whereabouts

_OPENED = ("connection.connect_tcp.complete", "connection.start_tls.complete")  # TLS replaces the stream below it


class RoamingConnections:
    """Open connections of any number of clients; implements `p2pd.ports_network.AddressFollower`."""

    def __init__(self) -> None:
        self._streams: WeakSet[httpcore.AsyncNetworkStream] = WeakSet()
        self._sockets: WeakSet[socket.socket] = WeakSet()

    def client(
        self, verify: ssl.SSLContext | bool = True, *, opened: Callable[[Any], None] | None = None
    ) -> httpx.AsyncClient:
        """A client that asks no proxy; `verify` decides whom TLS believes, True: the system's authorities.

        `opened` hears of the socket of each new connection.
        """
        return httpx.AsyncClient(transport=_Transport(self._streams, verify, opened), trust_env=False)

    def watch(self, opened: socket.socket) -> None:
        """Hang up this one, too, when its address goes; who waits for it to be readable finds its end."""
        self._sockets.add(opened)

    async def follow(self, here: Whereabouts) -> None:
        """Hang up wherever our end is an address that is not `here.present`: requests fail, to be made again."""
        await trio.lowlevel.checkpoint()
        for stream in [stream for stream in self._streams if _source(stream) not in here.present]:
            self._streams.discard(stream)
            # Whoever reads finds the end, and the pool a connection that is over: it closes the stream itself.
            with suppress(OSError):
                stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        for opened in [opened for opened in self._sockets if _local_host(opened) not in here.present]:
            self._sockets.discard(opened)
            with suppress(OSError):
                socket.socket.shutdown(opened, socket.SHUT_RDWR)  # a TLS socket's own would go on in the clear


class _Transport(httpx.AsyncHTTPTransport):
    def __init__(
        self,
        streams: "WeakSet[httpcore.AsyncNetworkStream]",
        verify: ssl.SSLContext | bool,
        opened: Callable[[Any], None] | None,
    ) -> None:
        super().__init__(verify=verify, trust_env=False)
        self._streams = streams
        self._opened = opened

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions = {**request.extensions, "trace": self._trace}
        return await super().handle_async_request(request)

    async def _trace(self, event: str, info: dict[str, Any]) -> None:
        if event in _OPENED:
            self._streams.add(info["return_value"])
        if event == _OPENED[0] and self._opened is not None:
            self._opened(info["return_value"].get_extra_info("socket"))


def _local_host(opened: socket.socket) -> str | None:
    """The address of our end; None once it is closed."""
    try:
        return str(opened.getsockname()[0]).partition("%")[0]
    except OSError:
        return None


def _source(stream: httpcore.AsyncNetworkStream) -> str | None:
    """The address of our end; None once it is closed."""
    try:
        address: tuple[str, int] = stream.get_extra_info("client_addr")
    except OSError:
        return None
    return address[0].partition("%")[0]
