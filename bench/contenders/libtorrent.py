# SPDX-License-Identifier: Apache-2.0
"""A swarm of plain libtorrent: the library that p2pd stands on, with its default settings."""

import time
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import trio

from bench.contenders.contender import Stage
from bench.contenders.swarm import SwarmEntry, serving
from bench.lab.network import Host
from bench.lab.processes import LabProcess
from bench.lab.programs import module
from bench.lab.waiting import eventually
from bench.scenes import Scene

READY_SECONDS = 120.0  # for forty Pythons to start and to wait for the signal
_PEER = "bench.contenders.libtorrent_peer"


class Libtorrent:
    """The library's Python binding, one process per endpoint."""

    name = "libtorrent"
    packages: Mapping[str, str] = {"opentracker": "opentracker"}

    def why_not(self, scene: Scene) -> str | None:
        """It takes part in everything."""
        return None

    def prepare(self, stage: Stage) -> AbstractAsyncContextManager[SwarmEntry]:
        """Tracker and seed run; the endpoints' clients wait for the signal."""
        return serving(_LibtorrentEntry(stage))


class _LibtorrentEntry(SwarmEntry):
    async def serve(self) -> None:
        await super().serve()
        for host in self.stage.hosts:
            self.endpoint_processes[host.name] = [await self.launch(host)]
        with trio.fail_after(READY_SECONDS):
            await eventually(self._are_ready)

    async def _are_ready(self) -> bool:
        return all((directory / "ready").exists() for directory in self.directories.values())

    async def start(self) -> float:
        began = time.time()
        for own in self.endpoint_processes.values():
            for process in own:
                await process.tell(b"go\n")
        return began

    async def launch_client(self, host: Host, directory: Path, *, is_seed: bool) -> LabProcess:
        argv = module(_PEER, self.torrent, directory, directory / "ready", directory / "finished")
        process = await self.stage.processes.start(
            host.argv(argv),
            log=self.stage.directory / f"log-{host.name}",
            name=f"libtorrent of {host.name}",
            stdin=True,
        )
        if is_seed:
            await process.tell(b"go\n")
        return process
