# SPDX-License-Identifier: Apache-2.0
"""A swarm of transmission-cli, with the settings that it comes with."""

import json
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

# Its own defaults but for the distributed hash table and local discovery, which look for the world outside of the lab.
_SETTINGS = {"dht-enabled": False, "lpd-enabled": False}


class Transmission:
    """transmission-cli."""

    name = "transmission"
    packages: Mapping[str, str] = {"transmission-cli": "transmission-cli", "opentracker": "opentracker"}

    def why_not(self, scene: Scene) -> str | None:
        """It takes part in everything."""
        return None

    def prepare(self, stage: Stage) -> AbstractAsyncContextManager[SwarmEntry]:
        """Tracker and seed run."""
        return serving(_TransmissionEntry(stage))


class _TransmissionEntry(SwarmEntry):
    async def launch_client(self, host: Host, directory: Path, *, is_seed: bool) -> LabProcess:
        config = self.stage.directory / f"config-{host.name}"
        config.mkdir()
        (config / "settings.json").write_text(json.dumps(_SETTINGS))
        marker = write_marker(config / "mark-finished", directory / "finished")
        argv = [
            found("transmission-cli"),
            *("--config-dir", str(config)),
            *("--download-dir", str(directory)),
            *("--finish", str(marker)),
            "--no-portmap",
            *(["--verify"] if is_seed else []),
            str(self.torrent),
        ]
        return await self.stage.processes.start(
            host.argv(argv),
            log=config / "log",
            name=f"transmission-cli of {host.name}",
            environment={"HOME": str(config)},
        )
