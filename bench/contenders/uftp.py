# SPDX-License-Identifier: Apache-2.0
"""UFTP: one multicast stream for the whole LAN, repaired in further passes. Not for sites: routers do not pass it."""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import trio

from bench.contenders.contender import Stage
from bench.contenders.daemons import DaemonsEntry, write_marker
from bench.lab.network import Host
from bench.lab.processes import LabProcess
from bench.lab.programs import found
from bench.scenes import Scene, narrowest_link

READY_SECONDS = 1.0  # for the receivers to join the group
# Of the link; headers of UDP and Ethernet take 3 % more. 64 MB to 10 hosts at 100 Mbit/s, 5.1 s at the least, took
# 6.6 s so, 9.0 s with UFTP's own first guess of the round trip (0.5 s), and 13.7 s at 0.96, where packets are lost.
RATE_SHARE = 0.90
FIRST_ROUND_TRIP_SECONDS = 0.05


class Uftp:
    """uftp on the origin, uftpd on every endpoint, at the rate of the link."""

    name = "uftp"
    packages: Mapping[str, str] = {"uftp": "uftp", "uftpd": "uftp"}

    def why_not(self, scene: Scene) -> str | None:
        """Flat scenes only."""
        return None if scene.is_flat else "multicast does not cross the routers of sites"

    @asynccontextmanager
    async def prepare(self, stage: Stage) -> AsyncIterator["UftpEntry"]:
        """The receivers listen."""
        entry = UftpEntry(stage)
        await entry.listen()
        yield entry


class UftpEntry(DaemonsEntry):
    """Receivers that run beforehand, and a sender that is the signal."""

    async def listen(self) -> None:
        """Start the receivers."""
        for host in self.stage.hosts:
            self.endpoint_processes[host.name] = [await self.launch(host)]
        await trio.sleep(READY_SECONDS)

    async def start(self) -> float:
        """Start the sender."""
        rate = narrowest_link(self.stage.scene.topology, where=self.stage.scene.name)
        kilobits = int(rate * RATE_SHARE / 1_000)
        options = ["-R", str(kilobits), "-r", str(FIRST_ROUND_TRIP_SECONDS), "-I", "eth0"]
        argv = [found("uftp"), *options, str(self.stage.payload)]
        began = time.time()
        process = await self.stage.processes.start(
            self.stage.network.origin.argv(argv), log=self.stage.directory / "log", name="uftp", may_end=True
        )
        self.origin_processes.append(process)
        return began

    async def launch(self, host: Host) -> LabProcess:
        """A receiver, in the foreground, which calls a script for each file that has arrived whole."""
        directory = self.directories[host.name]
        marker = write_marker(directory / "mark-finished", self.mark(host.name))
        received = directory / "received"
        received.mkdir()
        argv = [found("uftpd"), "-d", "-t", "-I", "eth0", "-D", str(received), "-s", str(marker)]
        return await self.stage.processes.start(host.argv(argv), log=directory / "log", name=f"uftpd of {host.name}")
