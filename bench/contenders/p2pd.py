# SPDX-License-Identifier: Apache-2.0
"""p2pd itself: `p2pctl serve` on the origin, `p2pd` on every endpoint, mutual TLS and signatures as always.

The signal is the publication of the release; an endpoint has finished when it has hashed what it read back from its
disk and made that durable.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

import trio

from bench.contenders.contender import Stage
from bench.lab.administrator import Release
from bench.lab.fleet import LabFleet
from bench.lab.processes import LabProcess
from bench.scenes import Scene


class P2pd:
    """The contender that all the others are there for."""

    name = "p2pd"
    packages: Mapping[str, str] = {}

    def why_not(self, scene: Scene) -> str | None:
        """It takes part in everything."""
        return None

    @asynccontextmanager
    async def prepare(self, stage: Stage) -> AsyncIterator["FleetEntry"]:
        """A fleet that is enrolled, acquainted and idle, and a release that needs only to be published."""
        build = partial(stage.template.release, "1.0", 1, stage.payload.stat().st_size)
        release = await trio.to_thread.run_sync(build)
        fleet = LabFleet(stage.network, stage.template, stage.directory, stage.processes)
        await fleet.start()
        fleet.administrator.prepare(release)
        yield FleetEntry(fleet, release)


class FleetEntry:
    """A fleet before its first release."""

    def __init__(self, fleet: LabFleet, release: Release) -> None:
        self._fleet = fleet
        self._release = release

    @property
    def payload_bytes(self) -> int:
        """The transport, which is a little more than the file in it."""
        return self._release.size

    @property
    def endpoint_processes(self) -> Mapping[str, Sequence[LabProcess]]:
        """The daemons."""
        return {endpoint.name: [endpoint.daemon] for endpoint in self._fleet.endpoints if endpoint.daemon}

    @property
    def origin_processes(self) -> Sequence[LabProcess]:
        """The coordinator."""
        return [self._fleet.coordinator] if self._fleet.coordinator else []

    async def start(self) -> float:
        """Publish."""
        return await self._fleet.publish(self._release)

    def finished(self) -> Mapping[str, float]:
        """As the daemons' logs say."""
        for endpoint in self._fleet.endpoints:
            endpoint.read_log()
        version = self._release.version
        return {
            endpoint.name: endpoint.verified[version].unix
            for endpoint in self._fleet.endpoints
            if version in endpoint.verified
        }

    async def busiest(self) -> str:
        """The busiest ambassador."""
        return (await self._fleet.busiest_ambassador()).name

    async def kill(self, name: str) -> None:
        """kill -9 the daemon of that endpoint."""
        await self._fleet.endpoint(name).kill()

    async def origin_payload_bytes(self) -> int | None:
        """As the coordinator's metrics say."""
        return await self._fleet.served_payload_bytes()
