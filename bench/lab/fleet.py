# SPDX-License-Identifier: Apache-2.0
"""A real fleet in a built lab: `p2pctl serve` on the origin, a `p2pd` on every host, and what they cost.

    async with open_processes() as processes:
        fleet = LabFleet(network, template, directory, processes)
        await fleet.start()                      # enrolled, running, acquainted, idle
        began = await fleet.publish(release)
        await fleet.arrived(release, seconds=60)

Payloads are fetched, verified and kept, but not installed unless `installing`: one p2pd-install says what is installed
(nothing) while the daemons start, and is gone before anything is published.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import trio
from prometheus_client.parser import text_string_to_metric_families

from bench.lab.administrator import METRICS_PORT, Administrator, Release, Template
from bench.lab.endpoint import LabEndpoint
from bench.lab.enrolling import Wish
from bench.lab.network import Network, Site
from bench.lab.processes import LabProcess, Processes, ProcessFailed
from bench.lab.programs import command, module
from bench.lab.waiting import LOOK_SECONDS, eventually
from p2pd.host.control_socket import request

START_SECONDS = 240.0  # forty daemons need 30 s of two cores to start
QUIET_SECONDS = 3.0  # of the idle fleet before anything is published, in which its idle cost is measured


def _nothing() -> None:
    """What is done on a look when nobody asked for anything."""


class LabFleet:
    """Nothing runs when made. One per run: its files are in `directory`, which must be empty."""

    def __init__(
        self,
        network: Network,
        template: Template,
        directory: Path,
        processes: Processes,
        *,
        installing: bool = False,
        left_out: Sequence[str] = (),
    ) -> None:
        """`left_out` are names of hosts that are enrolled and do not start with the others; `join` starts them."""
        self.network = network
        self.administrator = Administrator(template, directory / "fleet")
        self.coordinator: LabProcess | None = None
        self.installers: list[LabProcess] = []
        self._processes = processes
        self._directory = directory
        self._is_installing = installing
        self._left_out = frozenset(left_out)
        self.endpoints = [
            LabEndpoint(host, site.name, directory / host.name, installer=self._installer_directory(host.name) / "sock")
            for site in network.sites
            for host in site.hosts
        ]

    async def start(self) -> None:
        """Start everything; return when every endpoint sees its whole site and has nothing left to do."""
        with trio.fail_after(START_SECONDS):
            await self.start_coordinator()
            await self._enrol()
            await self._start_installers()
            present = [endpoint for endpoint in self.endpoints if endpoint.name not in self._left_out]
            for endpoint in present:
                await endpoint.start(self._processes)
            for endpoint in present:
                at_its_site = sum(other.site == endpoint.site for other in present)
                await eventually(partial(_is_settled, endpoint, peers=at_its_site - 1))
        if not self._is_installing:
            await trio.sleep(QUIET_SECONDS)
            for installer in self.installers:
                await installer.kill()

    async def start_coordinator(self) -> None:
        """Start `p2pctl serve`, or start it again, and wait until it answers."""
        fleet = self.administrator.fleet
        environment = {
            "P2PCTL_FLEET": str(fleet.directory),
            "P2PCTL_ONLINE_PASSPHRASE_FILE": str(self.administrator.passphrase),
        }
        self.coordinator = await self._processes.start(
            self.network.origin.argv(command("p2pctl", "serve")),
            log=self._directory / "coordinator.log",
            environment=environment,
            name="the coordinator",
        )
        await eventually(partial(_answers, fleet.control_socket))

    async def kill_coordinator(self) -> None:
        """kill -9."""
        if self.coordinator is None:
            raise ValueError("the coordinator does not run")
        await self.coordinator.kill()

    async def publish(self, release: Release) -> float:
        """Publish a release that was prepared (`administrator.prepare`); the Unix time when that began."""
        began = time.time()
        await self.administrator.publish()
        return began

    async def arrived(self, release: Release, *, seconds: float, on_look: Callable[[], None] = _nothing) -> bool:
        """Wait until every endpoint that lives, or is yet to join, has verified the release; False after `seconds`.

        `on_look` is called after every look at the logs, five times a second.
        """
        with trio.move_on_after(seconds):
            while True:
                for endpoint in self.endpoints:
                    endpoint.read_log()
                on_look()
                awaited = filter(self._is_awaited, self.endpoints)
                if all(release.version in endpoint.verified for endpoint in awaited):
                    return True
                await trio.sleep(LOOK_SECONDS)
        return False

    async def busiest_ambassador(self) -> LabEndpoint:
        """The endpoint that has most of the newest release from the origin so far."""
        received: dict[str, int] = {}

        async def look(endpoint: LabEndpoint) -> None:
            received[endpoint.name] = await endpoint.bytes_from_origin()

        async with trio.open_nursery() as nursery:
            for endpoint in self.endpoints:
                if endpoint.is_alive:
                    nursery.start_soon(look, endpoint)
        return max((e for e in self.endpoints if e.name in received), key=lambda endpoint: received[endpoint.name])

    def endpoint(self, name: str) -> LabEndpoint:
        """The endpoint on the host of that name. Raises KeyError."""
        return {endpoint.name: endpoint for endpoint in self.endpoints}[name]

    async def join(self, name: str) -> LabEndpoint:
        """Start an endpoint that was left out, with a p2pd-install of its own: it asks that first what it has."""
        endpoint = self.endpoint(name)
        await self._start_installer(endpoint)
        await endpoint.start(self._processes)
        return endpoint

    async def served_payload_bytes(self) -> int:
        """Payload bytes that have left the coordinator since it started, by its own metrics."""
        url = f"http://127.0.0.1:{METRICS_PORT}/metrics"
        done = await self._processes.run(self.network.origin.argv(module("bench.lab.fetch_text", url)))
        if done.status != 0:
            raise ProcessFailed(f"the coordinator's metrics cannot be read: {done.errors}")
        return served_payload_bytes(done.output)

    async def _enrol(self) -> None:
        tokens = {site.name: self._token(site) for site in self.network.sites}
        wishes = [
            Wish(config=str(endpoint.config), token=tokens[endpoint.site], device=endpoint.name)
            for endpoint in self.endpoints
        ]
        argv = self.network.origin.argv(module("bench.lab.enrolling"))
        done = await self._processes.run(argv, stdin="".join(wish.to_line() for wish in wishes).encode())
        if done.status != 0:
            raise ProcessFailed(f"endpoints could not be enrolled: {done.errors}")

    def _token(self, site: Site) -> str:
        return self.administrator.token(site.name, uses=len(site.hosts)).encode()

    def _is_awaited(self, endpoint: LabEndpoint) -> bool:
        return endpoint.is_alive or (endpoint.daemon is None and endpoint.name in self._left_out)

    def _installer_directory(self, host: str) -> Path:
        """One for each endpoint that is to install, or that comes late; one that all others ask what they have."""
        is_own = self._is_installing or host in self._left_out
        return self._directory / (f"install-{host}" if is_own else "install")

    async def _start_installers(self) -> None:
        present = [endpoint for endpoint in self.endpoints if endpoint.name not in self._left_out]
        for endpoint in present if self._is_installing else present[:1]:
            await self._start_installer(endpoint)

    async def _start_installer(self, endpoint: LabEndpoint) -> None:
        directory = self._installer_directory(endpoint.name)
        directory.mkdir()
        config = directory / "p2pd-install.toml"
        config.write_text(
            f'state_dir = "{directory}/state"\n'
            f'install_root = "{directory}/opt"\n'
            f'initial_root = "{endpoint.root}"\n'
            f'socket = "{directory}/sock"\n'
        )
        argv = command("p2pd-install", "--config", config)
        log, name = directory / "log", f"p2pd-install of {endpoint.name}"
        self.installers.append(await self._processes.start(argv, log=log, name=name))
        await eventually(trio.Path(directory / "sock").exists)


def served_payload_bytes(metrics: str) -> int:
    """Payload bytes served, in the coordinator's metrics as text."""
    return sum(
        int(sample.value)
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if sample.name == "seeds_bytes_served_total" and sample.labels.get("kind") == "payloads"
    )


async def _is_settled(endpoint: LabEndpoint, *, peers: int) -> bool:
    if len((await endpoint.ask("peers"))["peers"]) < peers:
        return False
    return not (await endpoint.ask("why"))["problems"]


async def _answers(socket: Path) -> bool:
    await request(socket, "status", timeout_seconds=20)
    return True
