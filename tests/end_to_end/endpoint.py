# SPDX-License-Identifier: Apache-2.0
"""One endpoint of an end-to-end test: its files, its two processes, and what they say."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import trio

from bench.lab.processes import Finished, LabProcess, Processes
from bench.lab.programs import command
from p2pd.commands.enroll import run_enroll
from p2pd.config import AgentConfig
from p2pd.host.config_file import load_config
from p2pd.host.control_socket import request
from signing.reasons import Reason
from tests.end_to_end.scraping import Metrics, scrape
from tests.end_to_end.template import Release
from tests.end_to_end.waiting import eventually

ANSWER_SECONDS = 20.0


class Endpoint:
    """Not enrolled and not running when made."""

    def __init__(
        self, name: str, address: str, directory: Path, processes: Processes, *, prefix: Sequence[str] = ()
    ) -> None:
        """`prefix` is what to put before a command so that it runs where the endpoint is."""
        directory.mkdir()
        self.name = name
        self.address = address
        self.directory = directory
        self.config = directory / "p2pd.toml"
        self.installer_config = directory / "p2pd-install.toml"
        self.state = directory / "state"
        self.log = directory / "p2pd.log"
        self.installer_log = directory / "p2pd-install.log"
        self.daemon: LabProcess | None = None
        self.installer: LabProcess | None = None
        self._processes = processes
        self._prefix = list(prefix)
        self.configure()

    def configure(self, **swarm: float) -> None:
        """Write both configurations; `swarm` is what differs from the defaults in that table."""
        directory = self.directory
        self.config.write_text(
            f'interfaces = ["{self.address}"]\n'
            f'state_dir = "{self.state}"\n'
            f'initial_root = "{directory}/root.json"\n'
            f'control_socket = "{directory}/p2pd.sock"\n'
            f'installer_socket = "{directory}/install.sock"\n'
            f'metrics_host = "{self.address}"\n'
            "[swarm]\n" + "".join(f"{key} = {value}\n" for key, value in swarm.items())
        )
        self.installer_config.write_text(
            f'state_dir = "{directory}/install-state"\n'
            f'install_root = "{directory}/opt"\n'
            f'initial_root = "{directory}/root.json"\n'
            f'socket = "{directory}/install.sock"\n'
        )

    def argv(self, *arguments: str | Path) -> list[str]:
        """`p2pd` with this endpoint's configuration."""
        return [*self._prefix, *command("p2pd", "--config", self.config, *arguments)]

    async def enrol(self, token: str) -> None:
        """Join the fleet: in this process, or as a command where the endpoint is elsewhere."""
        if self._prefix:
            done = await self._processes.run(
                self.argv("enroll", "--name", self.name, "--token-file", "-"), stdin=token.encode()
            )
            assert done.status == 0, done.errors
            return
        config = load_config(AgentConfig, self.config)
        await trio.to_thread.run_sync(partial(run_enroll, config, token, self.name, again=False))

    async def start(self) -> None:
        """Start whichever of the two processes does not run, and wait until the daemon answers."""
        start = self._processes.start
        if self.installer is None:
            argv = [*self._prefix, *command("p2pd-install", "--config", self.installer_config)]
            self.installer = await start(argv, log=self.installer_log, name=f"p2pd-install of {self.name}")
        if self.daemon is None:
            self.daemon = await start(self.argv("run"), log=self.log, name=f"p2pd of {self.name}")
        await eventually(self.status, lambda _: True, f"{self.name} answers")

    async def kill(self) -> None:
        """kill -9 the daemon."""
        daemon, self.daemon = self.daemon, None
        assert daemon is not None
        await daemon.kill()

    async def kill_installer(self) -> None:
        """kill -9 the installer."""
        installer, self.installer = self.installer, None
        assert installer is not None
        await installer.kill()

    async def stop(self) -> None:
        """Ask the daemon to stop."""
        daemon, self.daemon = self.daemon, None
        assert daemon is not None
        await daemon.stop()

    async def ask(self, verb: str, **arguments: Any) -> dict[str, Any]:
        """A question over the daemon's socket."""
        return await request(self.directory / "p2pd.sock", verb, arguments, timeout_seconds=ANSWER_SECONDS)

    async def status(self) -> dict[str, Any]:
        """What `p2pd status --json` prints."""
        return await self.ask("status")

    async def metrics(self) -> Metrics:
        """The daemon's metrics."""
        return await scrape(self.address, AgentConfig.metrics_port)

    async def run(self, *arguments: str | Path) -> Finished:
        """A command of `p2pd`, as a process."""
        return await self._processes.run(self.argv(*arguments))

    async def told(self, *arguments: str | Path) -> Any:
        """The JSON that a command prints; it must succeed."""
        done = await self.run(*arguments, "--json")
        assert done.status == 0, done.errors
        return json.loads(done.output)

    async def attempt(self, product: str) -> dict[str, Any]:
        """The newest attempt at the product, with the `version` in use as `installed`; empty when there was none."""
        answer = await self.status()
        entry = next((entry for entry in answer["products"] if entry["product"] == product), None)
        return {} if entry is None else {**(entry["attempt"] or {}), "installed": entry["version"]}

    async def reaches(self, release: Release, state: str, **facts: Any) -> dict[str, Any]:
        """Wait until the newest attempt is at that release and in that state, with these facts."""
        wanted = {"version": release.version, "state": state, **facts}
        return await eventually(
            partial(self.attempt, release.product),
            lambda now: now.items() >= wanted.items(),
            f"{self.name} has {wanted}",
        )

    async def says_why(self, release: Release, reason: Reason) -> None:
        """Wait until the daemon gives this reason for what it does with a release, or does not."""
        await eventually(
            partial(self.why, release),
            lambda now: now.get("reason") == reason,
            f"{self.name} says {reason} of {release.version}",
        )

    async def sees_peers(self, count: int, *, shares: int = 0) -> None:
        """Wait until the daemon has that many peers in sight, each with that many payloads at least."""

        async def look() -> list[int]:
            return [peer["shares"] for peer in (await self.ask("peers"))["peers"]]

        await eventually(
            look, lambda now: len(now) == count and min(now) >= shares, f"{self.name} has {count} peers in sight"
        )

    async def why(self, release: Release) -> dict[str, Any]:
        """What the daemon says of one release; empty when it has nothing to say."""
        answer = await self.ask("why", patch=f"{release.product}@{release.version}")
        return next(iter(answer["releases"]), {})

    def current(self, release: Release) -> Path:
        """What is in use of the release's product."""
        return self.directory / "opt" / "products" / release.product / "current"

    def in_use(self, release: Release) -> dict[str, bytes]:
        """All files in use of the release's product."""
        root = self.current(release)
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    def spooled(self) -> list[str]:
        """Reports that wait for the coordinator."""
        return sorted(path.name for path in (self.state / "spool").glob("*.report"))

    def logged(self) -> list[dict[str, Any]]:
        """The daemon's log; each line must be a JSON object."""
        return read_log(self.log)


def read_log(path: Path) -> list[dict[str, Any]]:
    """Lines of JSON objects, each with a level, an event, and a time."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines
    for line in lines:
        assert {"level", "event", "time"} <= line.keys()
    return lines
