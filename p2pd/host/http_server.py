# SPDX-License-Identifier: Apache-2.0
"""ASGI applications over HTTP/1.1, with or without TLS: bind, accept, and drain within a bound."""

import errno
import logging
import ssl
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.logging import Logger
from hypercorn.trio.worker_context import WorkerContext

from p2pd.host.http_bounds import REFUSALS, HttpLimits
from p2pd.host.http_connection import Connection
from p2pd.host.live_certificate import LiveCertificate
from p2pd.host.telemetry import AsgiApp, log
from p2pd.host.tls import server_context
from signing.errors import BadInput

_log = log(__name__)

_BIND_FAULTS: Mapping[int, tuple[str, str]] = {
    errno.EADDRINUSE: ("the port is in use", "stop the program that has it, or configure another port"),
    errno.EADDRNOTAVAIL: ("no interface of this machine has this address", "configure one that it has"),
    errno.EACCES: ("this user may not bind the port", "configure a port from 1024 up, or grant CAP_NET_BIND_SERVICE"),
}


@dataclass(frozen=True, kw_only=True)
class Listener:
    """Where and how to listen. Port 0 lets the kernel choose.

    `certificate` (with its chain) and `key` make it TLS, and so does `live`, whose certificate may be renewed while it
    listens; `client_ca` then makes client certificates mandatory.
    """

    host: str
    port: int
    certificate: Path | None = None
    key: Path | None = None
    live: LiveCertificate | None = None
    client_ca: Path | None = None
    limits: HttpLimits = field(default_factory=HttpLimits)

    def __post_init__(self) -> None:
        if not self.host:
            raise ValueError("host must name an address; binding all interfaces takes an explicit 0.0.0.0 or ::")
        if not 0 <= self.port <= 65_535:
            raise ValueError(f"port {self.port} must be between 0 and 65535")
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together: name both, or neither")
        if self.certificate is not None and self.live is not None:
            raise ValueError("live holds a certificate and its key: name those, or live")
        if self.client_ca is not None and self.certificate is None and self.live is None:
            raise ValueError("client_ca asks for certificates of clients, which takes a certificate and key of ours")


async def serve_http(
    app: AsgiApp,
    listener: Listener,
    *,
    drain_seconds: float,
    task_status: trio.TaskStatus[list[tuple[str, int]]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` until cancelled; report the bound (host, port) pairs through `task_status`.

    When cancelled it accepts nobody any more, lets open requests finish for at most `drain_seconds`, and cuts off the
    rest. Raises BadInput if it cannot listen.
    """
    tls = _tls(listener)
    listeners = await _bind(listener)
    context = WorkerContext(max_requests=None)
    connections: set[Connection] = set()
    served: Counter[str] = Counter()
    config = _hypercorn_config(listener.limits)

    async def serve_one(stream: trio.SocketStream) -> None:
        if len(connections) >= listener.limits.max_connections:
            REFUSALS.labels(cause="connections").inc()
            return
        connection = Connection(
            app, stream, tls=tls, limits=listener.limits, served=served, config=config, context=context
        )
        connections.add(connection)
        try:
            await connection.serve()
        finally:
            connections.discard(connection)

    try:
        async with trio.open_nursery() as nursery:
            try:
                handlers: trio.Nursery = await nursery.start(partial(_drain, connections, context, drain_seconds))
                bound = [(name[0], name[1]) for name in (each.socket.getsockname() for each in listeners)]
                _log.info("listening", addresses=[_shown(*address) for address in bound], tls=tls is not None)
                task_status.started(bound)
                await trio.serve_listeners(serve_one, listeners, handler_nursery=handlers)
            finally:
                await context.terminated.set()  # no checkpoint in it: idle connections close, and draining begins
    finally:
        for each in listeners:
            each.socket.close()


async def _drain(
    connections: set[Connection],
    context: WorkerContext,
    drain_seconds: float,
    *,
    task_status: trio.TaskStatus[trio.Nursery],
) -> None:
    # The shield ends by itself: `_hang_up_after` cuts every connection once accepting has stopped.
    with trio.CancelScope(shield=True):
        async with trio.open_nursery() as watch:
            async with trio.open_nursery() as handlers:
                task_status.started(handlers)
                await context.terminated.wait()
                watch.start_soon(_hang_up_after, drain_seconds, connections)
            watch.cancel_scope.cancel()


async def _hang_up_after(seconds: float, connections: set[Connection]) -> None:
    await trio.sleep(seconds)
    _log.warning("cutting off requests that did not finish in time", connections=len(connections))
    for connection in tuple(connections):
        connection.hang_up()


def _tls(listener: Listener) -> ssl.SSLContext | None:
    if listener.live is not None:
        return listener.live.server_context(client_ca=listener.client_ca)
    if listener.certificate is None or listener.key is None:
        return None
    return server_context(certificate=listener.certificate, key=listener.key, client_ca=listener.client_ca)


async def _bind(listener: Listener) -> list[trio.SocketListener]:
    try:
        return await trio.open_tcp_listeners(listener.port, host=listener.host)
    except OSError as problem:
        fault, remedy = _BIND_FAULTS.get(problem.errno or 0, (f"cannot listen ({problem.strerror or problem})", ""))
        raise BadInput(_shown(listener.host, listener.port), fault, remedy) from problem


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _hypercorn_config(limits: HttpLimits) -> Config:
    config = Config()
    config.logger_class = _HypercornLog
    config.h11_max_incomplete_size = limits.max_header_bytes
    config.keep_alive_timeout = limits.idle_seconds
    config.ssl_handshake_timeout = limits.handshake_seconds
    config.read_timeout = None  # it would cut answers that take long; `http_bounds` limits the time of bodies
    config.include_server_header = False
    return config


class _HypercornLog(Logger):
    """Hypercorn's words in our log. Access lines are left out: metrics count requests, and URLs may name releases."""

    def __init__(self, config: Config) -> None:  # as Hypercorn calls it; its own loggers are not made
        self.access_logger = None
        self.error_logger = logging.getLogger("hypercorn.error")

    async def access(self, request: Any, response: Any, request_time: float) -> None:
        """Say nothing."""

    async def exception(self, message: str, *args: Any, **kwargs: Any) -> None:
        """Tell of an exception that left the application; the peer got a 500."""
        _log.error("request failed", problem=message, exc_info=True)
