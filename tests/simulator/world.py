# SPDX-License-Identifier: Apache-2.0
"""Everything around the endpoints of one site: LAN, WAN, origin, coordinator, administrators, and time."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import trio
from sqlalchemy import event

from p2pd.decisions.ambassadors import rank
from p2pd.host.wall_clock import WallClock
from p2pd.services.site import Identity
from seeds.adapters.store import Store
from seeds.fleet import Fleet, open_fleet
from seeds.records import RolloutState
from seeds.signers import open_online_keys
from signing.codec import decode
from signing.devices import DeviceKey
from signing.policy import POLICY_TARGET, Policy, Ring
from signing.report import InstallState, Report
from signing.repository import Repository
from signing.schedule import Member
from tests.fakes.fake_coordinator import FakeCoordinator
from tests.fakes.fake_installer import FakeInstaller
from tests.fakes.fake_lan import FakeLanNetwork, open_fake_network
from tests.fakes.fake_origin import FakeOrigin
from tests.fakes.fake_small_peers import FakeSmallNetwork
from tests.fakes.fake_swarm import FakeSwarmNetwork, open_fake_swarm_network
from tests.fakes.fake_uplink import FakeUplink
from tests.fakes.frozen_clock import START
from tests.simulator.administrator import ONLINE, PRODUCT, SEGMENT, Administrator, Release
from tests.simulator.endpoint import ORIGIN_URL, SimulatedEndpoint, Surroundings
from tests.simulator.installer_process import InstallerProcess

SITE = "paris"
CANARY_SOAK_SECONDS = 300.0
LOOK_SECONDS = 0.25  # how often `until` looks, in virtual time
INSTALL_SECONDS = 2.0


class World:
    """Made by `open_world` only."""

    def __init__(
        self,
        directory: Path,
        fleet: Fleet,
        store: Store,
        *,
        lan: FakeLanNetwork,
        swarm: FakeSwarmNetwork,
        nursery: trio.Nursery,
    ) -> None:
        self.endpoints: list[SimulatedEndpoint] = []
        self.directory = directory
        self.segment_ca_pem = fleet.read_segment_certificate(SEGMENT)
        self.lan = lan
        self.swarm = swarm
        self.small = FakeSmallNetwork()
        self.payload_uplink, self.metadata_uplink, self.coordinator_uplink = FakeUplink(), FakeUplink(), FakeUplink()
        self.origin = FakeOrigin(fleet.payloads, self.payload_uplink)
        self.wall_clock = WallClock(self.unix)
        self.coordinator = FakeCoordinator(
            fleet,
            store,
            keys=open_online_keys(fleet, Repository(fleet.repository), ONLINE),
            authorities={SEGMENT: fleet.open_authority(SEGMENT, ONLINE)},
            clock=self.wall_clock,
            uplink=self.coordinator_uplink,
        )
        self.administrator = Administrator(fleet, directory / "workshop", self.wall_clock)
        self._fleet = fleet
        self._asleep_seconds = 0.0
        self._nursery = nursery
        self._releases: list[Release] = []

    async def enrol(self, count: int) -> list[SimulatedEndpoint]:
        """So many new endpoints of the site, their daemons started."""
        new = [await self._enrol_one(len(self.endpoints) + 1) for _ in range(count)]
        for endpoint in new:
            await endpoint.start()
        return new

    def release(self, version: str, *, product: str = PRODUCT, pieces: int = 24, **about: Any) -> Release:
        """Publish a release to the whole fleet."""
        release = self.administrator.release(version, product=product, pieces=pieces, **about)
        self._releases.append(release)
        for endpoint in self.endpoints:
            endpoint.installer.inside.offer(release.manifest, release.sha256)
        self.coordinator.poke()
        return release

    def release_software(self, version: str, *bases: Release) -> Release:
        """Publish a release that has a delta from each of `bases`."""
        release = self.administrator.release_software(version, bases=bases)
        self._releases.append(release)
        for endpoint in self.endpoints:
            endpoint.installer.inside.offer(release.manifest, release.sha256)
        self.coordinator.poke()
        return release

    def release_many(self, version: str, count: int, *, size: int = 3_000, **about: Any) -> list[Release]:
        """Publish small releases of so many products at once."""
        released = self.administrator.release_many(version, count, size=size, **about)
        self._releases += released
        for endpoint in self.endpoints:
            for release in released:
                endpoint.installer.inside.offer(release.manifest, release.sha256)
        self.coordinator.poke()
        return released

    def recall(self, release: Release) -> None:
        """Withdraw a release. p2pd-install is not told: here the agent has to see to it alone."""
        self.administrator.recall(release)
        self.coordinator.poke()

    def set_policy(self, **changes: Any) -> None:
        """Publish the policy with `changes`."""
        repository = self.coordinator.repository
        before = decode(Policy, repository.read_target("policies", POLICY_TARGET) or b"", where="policy")
        self.administrator.set_policy(replace(before, version=before.version + 1, **changes))
        self.coordinator.poke()

    def open_all_rings(self) -> None:
        """From now on the policy has one ring, with everybody in it."""
        self.set_policy(rings=(Ring(name="everyone"),))

    def sleep_through(self, seconds: float) -> None:
        """The lid is closed for so long: the calendar goes on, nothing else does."""
        self._asleep_seconds += seconds

    def unix(self) -> float:
        """The calendar, in Unix seconds."""
        return START.timestamp() + trio.current_time() + self._asleep_seconds

    async def until(self, condition: Callable[[], bool], *, within: float = 1_200.0) -> None:
        """Let time pass until `condition` holds. Fails after `within` virtual seconds."""
        with trio.move_on_after(within):
            while not condition():  # noqa: ASYNC110 (nobody tells of conditions, and looking is free on virtual time)
                await trio.sleep(LOOK_SECONDS)
        if not condition():
            raise AssertionError(f"not within {within:g} s: {self._describe()}")

    async def all_committed(self, release: Release, endpoints: Sequence[SimulatedEndpoint] | None = None) -> None:
        """Wait until every endpoint (of `endpoints`) has committed the release."""
        chosen = self.endpoints if endpoints is None else endpoints
        await self.until(lambda: all(endpoint.has_committed(release) for endpoint in chosen))

    async def completed(self, release: Release) -> None:
        """Wait until everybody has committed the release, and the coordinator has heard of it."""
        await self.all_committed(release)
        await self.until(lambda: self.coordinator.rollout_of(release.sha256).state is RolloutState.COMPLETE)

    async def pass_time(self, seconds: float) -> None:
        """Let so much virtual time pass."""
        await trio.sleep(seconds)

    async def revive_coordinator(self) -> None:
        """The coordinator works again after `coordinator.stop()`."""
        await self._nursery.start(self.coordinator.run)

    def canary_of(self, release: Release) -> SimulatedEndpoint:
        """The one endpoint that was drafted into the first ring."""
        (draft,) = self.coordinator.rollout_of(release.sha256).drafted
        return next(endpoint for endpoint in self.endpoints if endpoint.device == draft.device)

    def payload_of(self, release: Release) -> bytes:
        """The bytes that travel."""
        return (self._fleet.payloads / release.transport_sha256).read_bytes()

    @contextmanager
    def missing_at_origin(self, sha256: str) -> Iterator[None]:
        """The origin answers 404 for that transport while the block lasts."""
        path = self._fleet.payloads / sha256
        data = path.read_bytes()
        path.unlink()
        yield
        path.write_bytes(data)

    def torrent_of(self, release: Release) -> bytes:
        """Its signed torrent."""
        return self.coordinator.repository.read_target("patches", release.torrent.target) or b""

    def ranked(self, release: Release) -> list[SimulatedEndpoint]:
        """All endpoints, the best-ranked ambassador first."""
        by_device = {endpoint.device: endpoint for endpoint in self.endpoints}
        return [by_device[device] for device in rank(release.info_hash, [Member(device=name) for name in by_device])]

    def hang(self, endpoint: SimulatedEndpoint) -> None:
        """Its daemon stands still, for good: whoever is connected with it stays so."""
        endpoint.swarm.hang()
        self.origin.hanging.add(endpoint.device)

    def cut_off(self, *endpoints: SimulatedEndpoint) -> None:
        """The line to the internet breaks, for these or for everybody; the LAN stays."""
        for uplink in self._uplinks:
            uplink.cut(*(endpoint.device for endpoint in endpoints))

    def mend(self) -> None:
        """Everybody has internet again."""
        for uplink in self._uplinks:
            uplink.mend()

    @property
    def _uplinks(self) -> tuple[FakeUplink, ...]:
        return self.payload_uplink, self.metadata_uplink, self.coordinator_uplink

    async def told(self, endpoint: SimulatedEndpoint, last: InstallState) -> tuple[Report, ...]:
        """The reports of an endpoint, as soon as the coordinator has heard of that state."""
        reports = partial(self.coordinator.reports_of, endpoint.device)
        await self.until(lambda: any(report.state is last for report in reports()))
        return reports()

    def has_left_origin(self, release: Release, copies: float) -> bool:
        """Whether the origin has sent more than so many copies of the release, if it is the only one."""
        return self.copies(release) > copies

    def copies(self, release: Release) -> float:
        """How often the release left the origin, since the start of the world, if it is the only one."""
        return sum(self.origin.sent.values()) / release.size

    async def _enrol_one(self, number: int) -> SimulatedEndpoint:
        device, host, key = f"pc-{number}", f"10.0.0.{number}", DeviceKey.generate()
        enrolled = await self.coordinator.enrol(device, key, segment=SEGMENT, site=SITE)
        installer = FakeInstaller(unix_now=self.wall_clock.unix, seconds=INSTALL_SECONDS)
        for release in self._releases:
            installer.offer(release.manifest, release.sha256)
        endpoint = SimulatedEndpoint(
            self.directory / device,
            Identity(device=device, segment=SEGMENT, site=SITE),
            host=host,
            key=key,
            root=enrolled.root.encode(),
            installer=InstallerProcess(installer, self._nursery),
            surroundings=self._surroundings(device),
        )
        self.endpoints.append(endpoint)
        return endpoint

    def _surroundings(self, device: str) -> Surroundings:
        def find_origin(host: str) -> Path | None:
            is_there = ORIGIN_URL.endswith(host) and self.metadata_uplink.reaches(device)
            return self._fleet.repository if is_there else None

        def find_peer(host: str) -> Path | None:
            peer = next((peer for peer in self.endpoints if peer.host == host), None)
            return peer.mirror if peer is not None and peer.is_alive and peer.serves_mirror else None

        return Surroundings(
            lan=self.lan,
            swarm=self.swarm,
            small=self.small,
            origin=self.origin.line(device),
            coordinator=self.coordinator.line(device),
            find_origin=find_origin,
            find_peer=find_peer,
            read_clock=self.unix,
            nursery=self._nursery,
        )

    def _describe(self) -> str:
        def words(endpoint: SimulatedEndpoint) -> str:
            attempt = endpoint.attempt
            state = f"{attempt.version} {attempt.state} {attempt.reason or ''} {attempt.detail}" if attempt else "-"
            return f"{endpoint.device}: {endpoint.version} in use, {state}"

        return "; ".join(words(endpoint) for endpoint in self.endpoints)


def _spare_syncing(store: Store) -> None:
    """SQLite's own fsync, which takes longer than all the rest of a test; see `virtual_time`."""
    event.listen(store._engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF").close())
    store._engine.dispose()  # so that the connections are made anew


@asynccontextmanager
async def open_world(directory: Path, fleet_directory: Path) -> AsyncIterator[World]:
    """A site without endpoints, and a coordinator for the fleet in `fleet_directory`, for as long as the block lasts."""
    fleet = open_fleet(fleet_directory)
    with Store(fleet.database) as store:
        _spare_syncing(store)
        async with (
            open_fake_network() as lan,
            open_fake_swarm_network() as swarm,
            trio.open_nursery() as nursery,
        ):
            world = World(directory, fleet, store, lan=lan, swarm=swarm, nursery=nursery)
            await nursery.start(world.coordinator.run)
            yield world
            nursery.cancel_scope.cancel()
