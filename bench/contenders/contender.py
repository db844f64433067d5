# SPDX-License-Identifier: Apache-2.0
"""What a contender is: something that brings one file from the origin to every endpoint of a lab.

A contender prepares an `Entry`: all that is there before the race (daemons, seeds, trackers) runs when it is handed
over, and nothing of it runs any more when the block is left.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.lab.administrator import Template
from bench.lab.network import Host, Network
from bench.lab.processes import LabProcess, Processes
from bench.scenes import Scene


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Where one run happens. `directory` is empty, and the run's own; `payload` is a file of the scene's size."""

    scene: Scene
    network: Network
    directory: Path
    processes: Processes
    payload: Path
    template: Template

    @property
    def hosts(self) -> tuple[Host, ...]:
        """Those of all sites."""
        return tuple(host for site in self.network.sites for host in site.hosts)


class Entry(Protocol):
    """A contender in its blocks."""

    @property
    def payload_bytes(self) -> int:
        """What every endpoint must get."""

    @property
    def endpoint_processes(self) -> Mapping[str, Sequence[LabProcess]]:
        """What runs, or has run, on each endpoint, by the host's name."""

    @property
    def origin_processes(self) -> Sequence[LabProcess]:
        """What runs on the origin."""

    async def start(self) -> float:
        """Give the signal; the Unix time of it."""

    def finished(self) -> Mapping[str, float]:
        """The Unix time at which each endpoint that has all of it had it. Cheap: it is called five times a second."""

    async def busiest(self) -> str:
        """The name of the endpoint that has brought most into its site."""

    async def kill(self, name: str) -> None:
        """kill -9 everything on that endpoint."""

    async def origin_payload_bytes(self) -> int | None:
        """Payload bytes that have left the origin, if the origin itself knows."""


class Contender(Protocol):
    """One way to bring a file to many."""

    @property
    def name(self) -> str:
        """In results."""

    @property
    def packages(self) -> Mapping[str, str]:
        """The Debian package of each program that it needs, by the program's name."""

    def why_not(self, scene: Scene) -> str | None:
        """Why it cannot take part in a scene; None if it can."""

    def prepare(self, stage: Stage) -> AbstractAsyncContextManager[Entry]:
        """Get everything ready, and remove it afterwards. Raises ProcessFailed."""
