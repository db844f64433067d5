# SPDX-License-Identifier: Apache-2.0
"""One endpoint: what stays when its daemon dies (disk, p2pd-install, key), and the daemon, which lives several times."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio
from prometheus_client import CollectorRegistry

from p2pd.adapters.payload_files import PayloadFiles
from p2pd.adapters.report_spool import ReportSpool
from p2pd.adapters.small_shelf import SmallShelfFiles
from p2pd.adapters.trust_source import TrustSource
from p2pd.agent import Agent, AgentParts, run_parts
from p2pd.decisions.ambassadors import Timing
from p2pd.host.wall_clock import WallClock
from p2pd.ports import Endpoint, Origin
from p2pd.ports_control import Attempt, Coordinator
from p2pd.services.metrics import AgentMetrics
from p2pd.services.releases import Platform
from p2pd.services.site import Identity
from p2pd.services.wan_pacing import Pacer
from signing.budgets import NO_BUDGETS, OPEN_GATES
from signing.devices import DeviceKey
from signing.reasons import Reason
from signing.report import InstallState
from signing.trust import TrustClient
from tests.fakes.fake_health_probe import FakeHealthProbe
from tests.fakes.fake_host_looks import FakeHostLooks
from tests.fakes.fake_lan import FakeLan, FakeLanNetwork
from tests.fakes.fake_network import FakeNetwork
from tests.fakes.fake_small_peers import FakeSmallNetwork
from tests.fakes.fake_swarm import FakeSwarm, FakeSwarmNetwork
from tests.fakes.in_place_rebuilder import InPlaceRebuilder
from tests.simulator.administrator import PRODUCT, Release
from tests.simulator.installer_process import InstallerProcess
from tests.simulator.static_servers import StaticServers
from tests.simulator.virtual_time import in_place
from tests.simulator.watched_journal import WatchedJournal

TORRENT_PORT, MIRROR_PORT = 7681, 7682
ORIGIN_HOST = "origin.test"
ORIGIN_URL = f"https://{ORIGIN_HOST}"
LINUX = Platform(system="linux", machine="x86_64", installers=frozenset({"slot"}))


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What an endpoint is plugged into."""

    lan: FakeLanNetwork
    swarm: FakeSwarmNetwork
    small: FakeSmallNetwork
    origin: Origin
    coordinator: Coordinator
    find_origin: Callable[[str], Path | None]  # directory with the metadata, by host name
    find_peer: Callable[[str], Path | None]
    read_clock: Callable[[], float]  # Unix seconds
    nursery: trio.Nursery


class SimulatedEndpoint:
    """Made by the world, which has enrolled it. `start` it, `kill` it, ask it things."""

    def __init__(
        self,
        directory: Path,
        identity: Identity,
        *,
        host: str,
        key: DeviceKey,
        root: bytes,
        installer: InstallerProcess,
        surroundings: Surroundings,
    ) -> None:
        self.identity = identity
        self.host = host
        self.installer = installer
        self.probe = FakeHealthProbe()
        self.network = FakeNetwork({"eth0": [host]})
        self.looks = FakeHostLooks()
        self.rebuilder = InPlaceRebuilder()
        self.payloads = directory / "payloads"
        self.journal = WatchedJournal(directory / "journal")
        self.mirror = directory / "mirror"
        self.room_bytes: int | None = None
        self.serves_mirror = True  # while its daemon runs
        self.timing = Timing()
        self._directory = directory
        self._key = key
        self._around = surroundings
        self._agent: Agent | None = None
        self._swarm: FakeSwarm | None = None
        self._lan: FakeLan | None = None
        self._shelf: SmallShelfFiles | None = None
        self._life = trio.CancelScope()
        TrustClient.bootstrap(directory / "trust" / "metadata", root)

    async def start(self) -> None:
        """Start the daemon; returns at once, also when it has to wait for p2pd-install."""
        self._swarm = self._around.swarm.join(
            Endpoint(host=self.host, port=TORRENT_PORT), self.identity.device, room_bytes=self.room_bytes
        )
        self._life = trio.CancelScope()
        self._around.nursery.start_soon(self._live, self._parts(self._swarm), self._life)
        await trio.lowlevel.checkpoint()

    def kill(self) -> None:
        """End the daemon as a power cut does: no goodbye, nothing written any more. What is on disk stays."""
        if self._lan is not None:
            self._around.lan.kill(self._lan)
        self._around.swarm.kill(Endpoint(host=self.host, port=TORRENT_PORT))
        if self.is_alive:
            self._around.small.leave(self.host)
        self._life.cancel()
        self._agent = self._swarm = self._lan = None

    @property
    def is_alive(self) -> bool:
        """Its daemon runs, though perhaps without having come to be ready."""
        return self._swarm is not None

    @property
    def is_ready(self) -> bool:
        """Its daemon can be asked things."""
        return self._agent is not None

    def holds(self, release: Release) -> bool:
        """Whether it hands a small payload to whoever asks."""
        return self._shelf is not None and self._shelf.holds(release.transport_sha256)

    @property
    def device(self) -> str:
        """Its name."""
        return self.identity.device

    @property
    def agent(self) -> Agent:
        """The running daemon, once it is ready."""
        assert self._agent is not None, f"{self.device} is not ready"
        return self._agent

    @property
    def swarm(self) -> FakeSwarm:
        """Its node in the swarm."""
        assert self._swarm is not None, f"{self.device} does not run"
        return self._swarm

    @property
    def version(self) -> str | None:
        """The version in use, on probation or committed."""
        return self.installer.version_of(PRODUCT)

    @property
    def attempt(self) -> Attempt | None:
        """The newest attempt, as the daemon has it."""
        if self._agent is None or PRODUCT not in self._agent.releases.records():
            return None
        return self._agent.releases.records()[PRODUCT].attempt

    def has_committed(self, release: Release) -> bool:
        """Whether daemon and p2pd-install agree that the release has proved itself."""
        return self.stands(release, InstallState.COMMITTED) and self.version == release.version

    def stands(self, release: Release, state: InstallState) -> bool:
        """Whether the newest attempt is of this release and has come to this state."""
        attempt = self.attempt
        return attempt is not None and (attempt.manifest_sha256, attempt.state) == (release.sha256, state)

    def received_from_lan(self, release: Release) -> int:
        """Payload bytes that peers have sent in the present transfer."""
        return sum(
            transfer.progress().bytes_lan
            for info_hash, transfer in self.swarm.transfers.items()
            if info_hash == release.info_hash
        )

    async def ask(self, verb: str, **arguments: str) -> Mapping[str, Any]:
        """What the control socket answers."""
        return await self.agent.control.handle(verb, arguments)

    async def why(self, release: Release) -> Reason | None:
        """The reason code that `p2pd why` gives for a release."""
        answer = await self.ask("why", patch=f"{release.manifest.product}@{release.version}")
        reasons = [told["reason"] for told in answer["releases"]]
        assert len(reasons) == 1, f"{self.device} says {answer}"
        return None if reasons[0] is None else Reason(reasons[0])

    async def _live(self, parts: AgentParts, life: trio.CancelScope) -> None:
        with life:
            async with trio.open_nursery() as nursery:
                agent: Agent = await nursery.start(run_parts, parts)
                self._agent = agent

    def _parts(self, swarm: FakeSwarm) -> AgentParts:
        clock = WallClock(self._around.read_clock)
        self._shelf = shelf = SmallShelfFiles(self._directory / "payloads", self.identity.segment, in_place)
        self._around.small.join(self.host, shelf)
        return AgentParts(
            identity=self.identity,
            platform=LINUX,
            timing=self.timing,
            interfaces=("eth0",),
            network=self.network,
            looks=self.looks,
            origin_host=ORIGIN_HOST,
            pacer=Pacer(unix=clock.unix),
            budgets=NO_BUDGETS,
            gates=OPEN_GATES,
            swarm_limits=(None, None),
            swarm=swarm,
            open_lan=self._open_lan,
            origin=self._around.origin,
            coordinator=self._around.coordinator,
            trust=TrustSource(
                self._directory,
                segment=self.identity.segment,
                site=self.identity.site,
                origin_url=ORIGIN_URL,
                origin_fetcher=StaticServers(self._around.find_origin),
                peer_fetcher=StaticServers(self._around.find_peer),
                now=clock.now,
                run_sync=in_place,
            ),
            installer=self.installer,
            journal=self.journal,
            spool=ReportSpool(self._directory / "spool", self._key, in_place),
            store=PayloadFiles(self._directory / "payloads", in_place),
            rebuilder=self.rebuilder,
            small_shelf=shelf,
            small_peers=self._around.small.seen_by(self.host),
            probe=self.probe,
            clock=clock,
            metrics=AgentMetrics(CollectorRegistry()),
            mirror_port=MIRROR_PORT,
        )

    @asynccontextmanager
    async def _open_lan(self) -> AsyncIterator[FakeLan]:
        async with self._around.lan.open_lan(self.host) as lan:
            self._lan = lan
            yield lan
