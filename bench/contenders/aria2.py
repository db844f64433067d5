# SPDX-License-Identifier: Apache-2.0
"""A swarm of aria2: the tracker introduces its members, and peer exchange does the rest."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from bench.contenders.contender import Stage
from bench.contenders.daemons import write_marker
from bench.contenders.swarm import SwarmEntry, serving
from bench.lab.network import Host
from bench.lab.processes import LabProcess
from bench.lab.programs import found
from bench.scenes import Scene


class Aria2:
    """aria2c, nothing tuned but what keeps it within the lab."""

    name = "aria2"
    packages: Mapping[str, str] = {"aria2c": "aria2", "opentracker": "opentracker"}

    def why_not(self, scene: Scene) -> str | None:
        """It takes part in everything."""
        return None

    def prepare(self, stage: Stage) -> AbstractAsyncContextManager[SwarmEntry]:
        """Tracker and seed run."""
        return serving(_Aria2Entry(stage))


class _Aria2Entry(SwarmEntry):
    async def launch_client(self, host: Host, directory: Path, *, is_seed: bool) -> LabProcess:
        marker = write_marker(directory / "mark-finished", directory / "finished")
        argv = [
            found("aria2c"),
            "--no-conf=true",
            f"--dir={directory}",
            "--enable-dht=false",  # there is no way out of the lab
            "--enable-dht6=false",
            "--seed-ratio=0.0",  # seed for ever: endpoints serve each other until the race is over
            "--file-allocation=none",
            "--summary-interval=0",
            "--show-console-readout=false",
            f"--check-integrity={str(is_seed).lower()}",
            f"--on-bt-download-complete={marker}",
            str(self.torrent),
        ]
        return await self.stage.processes.start(
            host.argv(argv), log=directory / "log", name=f"aria2c of {host.name}", directory=directory
        )
