# SPDX-License-Identifier: Apache-2.0
"""An entry made of programs that know nothing of us: started on the signal, and done when they leave a mark.

A program is done when it has ended well, or when the script that it calls at the end of a transfer has touched a file:
the file's time of change is when.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.contenders.contender import Stage
from bench.lab.network import Host
from bench.lab.processes import LabProcess


class DaemonsEntry(ABC):
    """One program on each endpoint. What differs between programs is overridden: `launch`, and what is asked of it."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.payload_bytes = stage.payload.stat().st_size
        self.endpoint_processes: dict[str, Sequence[LabProcess]] = {}
        self.origin_processes: list[LabProcess] = []
        self.directories = {host.name: stage.directory / host.name for host in stage.hosts}
        for directory in self.directories.values():
            directory.mkdir()

    @abstractmethod
    async def launch(self, host: Host) -> LabProcess:
        """Start the program on one endpoint, which begins to fetch at once."""

    async def start(self) -> float:
        """Start it everywhere."""
        began = time.time()
        for host in self.stage.hosts:
            self.endpoint_processes[host.name] = [await self.launch(host)]
        return began

    def finished(self) -> Mapping[str, float]:
        """By the marks that the programs left."""
        marks = {name: mark_time(self.mark(name)) for name in self.directories}
        return {name: at for name, at in marks.items() if at is not None}

    def mark(self, name: str) -> Path:
        """The file that says that an endpoint has finished."""
        return self.directories[name] / "finished"

    async def busiest(self) -> str:
        """The endpoint whose own link has carried most, of those behind the WAN that has: these programs do not tell
        who brought what.
        """
        network = self.stage.network
        passed = {name: count.up + count.down for name, count in network.link_bytes().items()}
        site = max(network.sites, key=lambda site: passed[site.wan.name] if site.wan is not None else 0)
        return max(site.hosts, key=lambda host: passed[host.link.name]).name

    async def kill(self, name: str) -> None:
        """kill -9."""
        for process in self.endpoint_processes[name]:
            await process.kill()

    async def origin_payload_bytes(self) -> int | None:
        """Nobody tells."""
        return None


def mark_time(path: Path) -> float | None:
    """When a mark was left; None if it was not yet."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return None


def write_marker(path: Path, mark: Path) -> Path:
    """A script, for programs that call one at the end, that leaves the mark."""
    path.write_text(f"#!/bin/sh\n: > '{mark}'\n")
    path.chmod(0o755)
    return path
