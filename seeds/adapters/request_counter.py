# SPDX-License-Identifier: Apache-2.0
"""Counts requests and bytes around an ASGI application."""

from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any

from p2pd.host.telemetry import AsgiApp
from seeds.adapters.metrics import CoordinatorMetrics

_Message = MutableMapping[str, Any]


class RequestCounter:
    """`routes` are the first path segments that get a label of their own; the rest, as scanners try, is "other"."""

    def __init__(self, app: AsgiApp, metrics: CoordinatorMetrics, *, routes: Collection[str]) -> None:
        self._app = app
        self._metrics = metrics
        self._routes = frozenset(routes)

    async def __call__(
        self,
        scope: _Message,
        receive: Callable[[], Awaitable[_Message]],
        send: Callable[[_Message], Awaitable[None]],
    ) -> None:
        segment = scope.get("path", "").split("/")[1:2]
        route = segment[0] if segment and segment[0] in self._routes else "other"
        served = self._metrics.bytes_served.labels(kind=route)
        status = "aborted"

        async def counted(message: _Message) -> None:
            nonlocal status
            # Counted before it is sent: a client that has its last byte may hang up, and then `send` never returns.
            if message["type"] == "http.response.start":
                status = str(message["status"])
            else:
                served.inc(len(message.get("body", b"")))
            await send(message)

        try:
            await self._app(scope, receive, counted)
        finally:
            self._metrics.requests.labels(route=route, status=status).inc()
