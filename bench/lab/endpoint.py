# SPDX-License-Identifier: Apache-2.0
"""One endpoint of a fleet in the lab: its files, its daemon on its host, and what its log tells."""

from pathlib import Path
from typing import Any

from bench.lab.administrator import PRODUCT, SEGMENT, Release
from bench.lab.agent_log import Carried, LogReader, Verified
from bench.lab.network import Host
from bench.lab.processes import LabProcess, Processes
from bench.lab.programs import command
from p2pd.host.control_socket import request

ANSWER_SECONDS = 20.0
_BLOCK_BYTES = 512  # of `st_blocks`, whatever the file system


class LabEndpoint:
    """Not enrolled and not running when made."""

    def __init__(self, host: Host, site: str, directory: Path, *, installer: Path) -> None:
        """`installer` is the socket of a p2pd-install, its own or one that answers for many."""
        directory.mkdir()
        self.host = host
        self.name = host.name
        self.site = site
        self.config = directory / "p2pd.toml"
        self.root = directory / "root.json"
        self.log = directory / "p2pd.log"
        self.daemon: LabProcess | None = None
        self.verified: dict[str, Verified] = {}  # by version
        self.carried: dict[str, Carried] = {}
        self._state = directory / "state"
        self._control = directory / "p2pd.sock"
        self._reader = LogReader(self.log)
        addresses = [address for address in (host.address, host.address6) if address]
        self.config.write_text(
            f"interfaces = {addresses}\n"  # a list of strings looks the same in Python and in TOML
            f'state_dir = "{self._state}"\n'
            f'initial_root = "{self.root}"\n'
            f'control_socket = "{self._control}"\n'
            f'installer_socket = "{installer}"\n'
        )

    async def start(self, processes: Processes) -> None:
        """Start the daemon; it is ready once `ask` is answered."""
        argv = self.host.argv(command("p2pd", "--config", self.config, "run"))
        self.daemon = await processes.start(argv, log=self.log, name=f"p2pd of {self.name}")

    async def kill(self) -> None:
        """kill -9 the daemon; what it has cost stays known."""
        if self.daemon is None:
            raise ValueError(f"{self.name} does not run")
        await self.daemon.kill()

    @property
    def is_alive(self) -> bool:
        """Whether the daemon runs."""
        return self.daemon is not None and not self.daemon.ended.is_set()

    async def ask(self, verb: str, **arguments: Any) -> dict[str, Any]:
        """A question over the daemon's socket. Raises ControlUnreachable."""
        return await request(self._control, verb, arguments, timeout_seconds=ANSWER_SECONDS)

    async def bytes_from_origin(self) -> int:
        """Payload bytes that the newest attempt has from the origin so far, as the daemon says."""
        status = await self.ask("status")
        attempts = [entry["attempt"] for entry in status["products"] if entry["product"] == PRODUCT]
        return next((int(attempt["bytes_origin"]) for attempt in attempts if attempt), 0)

    def read_log(self) -> None:
        """Take in what the log tells that it did not before; cheap enough for five times a second."""
        for told in self._reader.news():
            if isinstance(told, Verified):
                self.verified.setdefault(told.version, told)
            else:
                self.carried.setdefault(told.version, told)

    def on_disk(self, release: Release) -> int:
        """Bytes of a release that have reached this endpoint's disk, without asking the daemon."""
        path = self._state / "payloads" / release.sha256 / SEGMENT
        try:
            return min(release.size, path.stat().st_blocks * _BLOCK_BYTES)
        except FileNotFoundError:
            return 0
