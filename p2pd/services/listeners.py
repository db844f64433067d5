# SPDX-License-Identifier: Apache-2.0
"""One server for each address of this endpoint: opened when the address comes, closed when it goes."""

from typing import Any, Protocol

import trio

from p2pd.ports_network import Whereabouts
from signing.errors import BadInput


class Serve(Protocol):
    """Serve at an address until cancelled; ready once bound. Raises BadInput if it cannot be."""

    async def __call__(self, host: str, *, task_status: trio.TaskStatus[Any]) -> None:
        """`host` is a numeric address."""


class Listeners:
    """Implements `p2pd.ports_network.AddressFollower`. Servers run in `nursery`."""

    def __init__(self, nursery: trio.Nursery, serve: Serve) -> None:
        self._nursery = nursery
        self._serve = serve
        self._open: dict[str, trio.CancelScope] = {}

    async def follow(self, here: Whereabouts) -> None:
        """Serve at all of `here.hosts`, and nowhere else. Raises BadInput once the others are served."""
        for host in self._open.keys() - set(here.hosts):
            self._open.pop(host).cancel()
        failure: BadInput | None = None
        for host in here.hosts:
            if host not in self._open:
                try:
                    await self._nursery.start(self._run, host)
                except BadInput as problem:
                    failure = failure or problem
        if failure is not None:
            raise failure

    async def _run(self, host: str, *, task_status: trio.TaskStatus[Any]) -> None:
        with trio.CancelScope() as scope:
            self._open[host] = scope
            try:
                await self._serve(host, task_status=task_status)
            finally:
                if self._open.get(host) is scope:
                    del self._open[host]
