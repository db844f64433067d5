# SPDX-License-Identifier: Apache-2.0
"""The composition root of the endpoint daemon: builds everything, opens the one nursery; nobody imports it."""

import platform
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx
import trio
from prometheus_client import REGISTRY

from p2pd.adapters.coordinator_https import AgentClient, CoordinatorHttps
from p2pd.adapters.health_probe import SystemHealthProbe
from p2pd.adapters.host_facts import SystemHostFacts
from p2pd.adapters.http_lines import Lines
from p2pd.adapters.identity_files import Enrolment, IdentityFiles
from p2pd.adapters.installer_socket import InstallerSocket
from p2pd.adapters.journal_files import JournalFiles
from p2pd.adapters.lan_mdns import open_lan
from p2pd.adapters.lan_mirror import MIRROR_LIMITS, mirror_app
from p2pd.adapters.network_changes import open_network_changes
from p2pd.adapters.origin_https import OriginHttps
from p2pd.adapters.payload_files import PayloadFiles
from p2pd.adapters.rebuild_process import RebuildProcess
from p2pd.adapters.report_spool import ReportSpool
from p2pd.adapters.resident_memory import give_back_memory, keep_few_heaps
from p2pd.adapters.roaming_http import RoamingConnections
from p2pd.adapters.small_peers import SmallPeersHttps
from p2pd.adapters.small_shelf import SmallShelfFiles
from p2pd.adapters.tcp_window import TcpWindow
from p2pd.adapters.torrent_session import open_torrent_session
from p2pd.adapters.torrent_settings import SwarmLimits
from p2pd.adapters.trust_source import TrustSource
from p2pd.adapters.tuf_fetchers import HttpFetcher
from p2pd.config import AgentConfig
from p2pd.decisions.ambassadors import Timing
from p2pd.decisions.budgets import sharers
from p2pd.decisions.interfaces import check_interfaces
from p2pd.host.control_socket import serve_requests
from p2pd.host.http_server import Listener, serve_http
from p2pd.host.live_certificate import LiveCertificate
from p2pd.host.supervise import keep_running
from p2pd.host.telemetry import AsgiApp, log, metrics_app
from p2pd.host.tls import client_context
from p2pd.host.wall_clock import WallClock
from p2pd.ports import Installer, Lan, Origin, Swarm
from p2pd.ports_control import Coordinator, HealthProbe, Journal, PayloadStore, Spool, Trust
from p2pd.ports_delta import Rebuilder
from p2pd.ports_network import AddressFollower, HostLooks, NetworkWatch
from p2pd.ports_small import SmallPeers, SmallShelf
from p2pd.services.addresses import AddressKeeper
from p2pd.services.attempt import ReleaseTools
from p2pd.services.carrying import Carriages
from p2pd.services.control import Control
from p2pd.services.discovery import Discovery
from p2pd.services.limiting import Limiter
from p2pd.services.listeners import Listeners
from p2pd.services.metadata import MetadataKeeper
from p2pd.services.metrics import AgentMetrics
from p2pd.services.releases import Platform, Releases
from p2pd.services.renewing import Renewal
from p2pd.services.reporting import Reporter
from p2pd.services.resting import rest
from p2pd.services.site import Board, Identity
from p2pd.services.small_payloads import SmallPayloads
from p2pd.services.wan_pacing import Pacer
from signing.budgets import OPEN_GATES, Budgets, NetworkGates
from signing.manifest import Severity

DRAIN_SECONDS = 2.0

_log = log(__name__)


@dataclass(frozen=True, kw_only=True)
class AgentParts:
    """Everything that an agent is made of: real adapters in the daemon, fakes in scenarios."""

    identity: Identity
    platform: Platform
    timing: Timing
    interfaces: tuple[str, ...]  # as configured
    network: NetworkWatch
    looks: HostLooks
    origin_host: str  # of the origin's URL
    pacer: Pacer
    budgets: Budgets  # this endpoint's own, besides the policy's
    gates: NetworkGates
    swarm_limits: tuple[int | None, int | None]  # at all hours: up, down
    followers: tuple[AddressFollower, ...] = ()  # of its addresses, besides the swarm and the LAN
    swarm: Swarm
    open_lan: Callable[[], AbstractAsyncContextManager[Lan]]
    origin: Origin
    coordinator: Coordinator
    trust: Trust
    installer: Installer
    journal: Journal
    spool: Spool
    store: PayloadStore
    rebuilder: Rebuilder
    small_shelf: SmallShelf
    small_peers: SmallPeers
    probe: HealthProbe
    clock: WallClock
    metrics: AgentMetrics
    mirror_port: int


@dataclass(frozen=True, kw_only=True)
class Agent:
    """A running agent, for those who ask it things."""

    board: Board
    releases: Releases
    control: Control
    received: Callable[[], int]  # bytes of large payloads so far


async def run_parts(parts: AgentParts, *, task_status: trio.TaskStatus[Agent] = trio.TASK_STATUS_IGNORED) -> None:
    """Run an agent until cancelled; report it as soon as it can be asked things, even if p2pd-install is away."""
    board = Board(origin_round_trip=lambda: parts.pacer.round_trip)
    addresses = AddressKeeper(
        parts.network,
        parts.interfaces,
        swarm=parts.swarm,
        followers=parts.followers,
        board=board,
        metrics=parts.metrics,
    )
    carriages = Carriages(
        swarm=parts.swarm,
        origin=parts.origin,
        store=parts.store,
        trust=parts.trust,
        board=board,
        identity=parts.identity,
        metrics=parts.metrics,
        timing=parts.timing,
    )
    small = SmallPayloads(
        peers=parts.small_peers,
        shelf=parts.small_shelf,
        origin=parts.origin,
        board=board,
        identity=parts.identity,
        metrics=parts.metrics,
        timing=parts.timing,
    )
    parts.pacer.share_with(lambda: sharers(board.fetching.values()))
    limiter = Limiter(
        pacer=parts.pacer,
        swarm=parts.swarm,
        looks=parts.looks,
        board=board,
        clock=parts.clock,
        origin_host=parts.origin_host,
        own=parts.budgets,
        own_gates=parts.gates,
        swarm_limits=parts.swarm_limits,
        is_urgent=lambda: small.is_urgent or _is_urgent(carriages),
    )
    reporter = Reporter(parts.spool, parts.coordinator, parts.clock, parts.identity, parts.metrics)
    tools = ReleaseTools(
        carriages=carriages,
        small=small,
        installer=parts.installer,
        journal=parts.journal,
        store=parts.store,
        rebuilder=parts.rebuilder,
        trust=parts.trust,
        reporter=reporter,
        probe=parts.probe,
        clock=parts.clock,
        board=board,
        identity=parts.identity,
        metrics=parts.metrics,
    )
    releases = Releases(tools, parts.platform)
    keeper = MetadataKeeper(parts.trust, parts.coordinator, board, parts.clock)
    async with trio.open_nursery() as services:
        await services.start(addresses.run)
        await services.start(parts.pacer.run)
        await services.start(limiter.run)
        await services.start(carriages.run)
        await services.start(small.run)
        await services.start(reporter.run)
        await services.start(partial(keep_running, partial(_discover, parts, board), name="discovery"))
        await services.start(keeper.run)
        control = Control(board, releases, carriages, small, parts.identity, parts.clock)
        task_status.started(Agent(board=board, releases=releases, control=control, received=carriages.received))
        await services.start(partial(keep_running, releases.run, name="releases"))


async def run_agent(config: AgentConfig, *, config_path: Path) -> None:
    """Run the daemon with real adapters until cancelled. Raises BadInput for what a person must mend."""
    keep_few_heaps()
    state_dir = Path(config.state_dir)
    files = IdentityFiles(state_dir)
    enrolment = files.load_enrolment()
    clock, metrics = WallClock(), AgentMetrics(REGISTRY)
    identity = Identity(device=enrolment.device, segment=enrolment.segment, site=enrolment.site)
    limits, pacer = _swarm_limits(config), Pacer(unix=clock.unix)
    async with AsyncExitStack() as stack:
        network = stack.enter_context(open_network_changes())
        check_interfaces(config.interfaces, network.look(), where=f"{config_path}: interfaces")
        connections = RoamingConnections()
        public = await stack.enter_async_context(_client(connections, files.coordinator_ca, pacer))
        agent_client = AgentClient(_agent_client(connections, files))
        stack.push_async_callback(agent_client.aclose)
        shown = LiveCertificate(files.certificate, files.key)
        peers = await stack.enter_async_context(_peer_client(connections, files, shown))
        swarm = await stack.enter_async_context(
            open_torrent_session(
                port=config.torrent_port,
                certificate_pem=files.certificate_pem(),
                key_pem=files.load_key().to_pem(),
                device=enrolment.device,
                limits=limits,
            )
        )
        shelf = SmallShelfFiles(state_dir / "payloads", enrolment.segment, trio.to_thread.run_sync)
        coordinator = CoordinatorHttps(public, agent_client, url=enrolment.url, agent_url=enrolment.agent_url)
        trust = _trust(state_dir, enrolment, identity, public, peers, clock)
        parts = AgentParts(
            identity=identity,
            platform=_platform(),
            timing=Timing(settle=config.swarm.settle_seconds, stall=config.swarm.stall_seconds),
            interfaces=config.interfaces,
            network=network,
            swarm=swarm,
            open_lan=open_lan,
            looks=SystemHostFacts(),
            origin_host=urlsplit(config.web_mirror or enrolment.url).hostname or "",
            pacer=pacer,
            budgets=config.budgets,
            gates=config.network or OPEN_GATES,
            swarm_limits=(limits.upload_bytes_per_s, limits.download_bytes_per_s),
            origin=stack.enter_context(_origin(config, connections, files.coordinator_ca, enrolment.url, pacer)),
            coordinator=coordinator,
            trust=trust,
            installer=InstallerSocket(Path(config.installer_socket)),
            journal=JournalFiles(state_dir / "journal", trio.to_thread.run_sync),
            spool=ReportSpool(state_dir / "spool", files.load_key(), trio.to_thread.run_sync, read_unix=clock.unix),
            store=PayloadFiles(state_dir / "payloads", trio.to_thread.run_sync),
            small_shelf=shelf,
            small_peers=SmallPeersHttps(peers),
            rebuilder=RebuildProcess(),
            probe=SystemHealthProbe(),
            clock=clock,
            metrics=metrics,
            mirror_port=config.mirror_port,
        )

        async def use_certificate(pem: bytes) -> None:
            await trio.to_thread.run_sync(files.save_certificate, pem)
            shown.reload()
            swarm.use_certificate(pem, files.load_key().to_pem())
            await agent_client.replace(_agent_client(connections, files))

        renewal = Renewal(
            files.load_key(), files.load_certificate(), coordinator, clock, identity, metrics, use=use_certificate
        )
        async with trio.open_nursery() as nursery:
            serve_mirror = partial(_serve_mirror, files, shown, mirror_app(trust.mirror, shelf), config.mirror_port)
            followers = (connections, Listeners(nursery, serve_mirror))
            if config.metrics_port:
                listener = Listener(host=config.metrics_host, port=config.metrics_port)
                await nursery.start(partial(serve_http, metrics_app(REGISTRY), listener, drain_seconds=DRAIN_SECONDS))
            agent: Agent = await nursery.start(run_parts, replace(parts, followers=followers))
            nursery.start_soon(renewal.run)
            resting = partial(rest, received=agent.received)
            nursery.start_soon(resting, agent.board, partial(trio.to_thread.run_sync, give_back_memory))
            await nursery.start(serve_requests, Path(config.control_socket), agent.control.handle)
            hosts = agent.board.here.value.hosts
            _log.info("ready", device=identity.device, segment=identity.segment, site=identity.site, addresses=hosts)


@asynccontextmanager
async def _listening(parts: AgentParts, board: Board) -> AsyncIterator[Discovery]:
    async with parts.open_lan() as lan:
        yield Discovery(
            lan,
            board,
            parts.identity,
            parts.clock,
            parts.metrics,
            torrent_port=parts.swarm.port,
            mirror_port=parts.mirror_port,
        )


async def _discover(
    parts: AgentParts, board: Board, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    async with _listening(parts, board) as discovery:
        await discovery.run(task_status=task_status)


async def _serve_mirror(
    files: IdentityFiles,
    shown: LiveCertificate,
    mirror: AsgiApp,
    port: int,
    host: str,
    *,
    task_status: trio.TaskStatus[Any],
) -> None:
    """Signed metadata and small payloads for the segment's own devices: mutual TLS by the segment's authority."""
    listener = Listener(host=host, port=port, live=shown, client_ca=files.segment_ca, limits=MIRROR_LIMITS)
    await serve_http(mirror, listener, drain_seconds=DRAIN_SECONDS, task_status=task_status)


def _trust(
    state_dir: Path,
    enrolment: Enrolment,
    identity: Identity,
    public: httpx.AsyncClient,
    peers: httpx.AsyncClient,
    clock: WallClock,
) -> TrustSource:
    return TrustSource(
        state_dir,
        segment=identity.segment,
        site=identity.site,
        origin_url=enrolment.url,
        origin_fetcher=HttpFetcher(public),
        peer_fetcher=HttpFetcher(peers),
        now=clock.now,
        run_sync=trio.to_thread.run_sync,
    )


def _client(connections: RoamingConnections, ca: Path, pacer: Pacer) -> httpx.AsyncClient:
    return connections.client(
        client_context(ca_pem=ca.read_bytes()), opened=lambda opened: pacer.learn(TcpWindow(opened))
    )


def _agent_client(connections: RoamingConnections, files: IdentityFiles) -> httpx.AsyncClient:
    context = client_context(ca_pem=files.coordinator_ca.read_bytes(), certificate=files.certificate, key=files.key)
    return connections.client(context)


def _peer_client(connections: RoamingConnections, files: IdentityFiles, shown: LiveCertificate) -> httpx.AsyncClient:
    # The segment's authority signs for its own devices only, so that the name in a certificate adds nothing.
    context = shown.peer_context(ca_pem=files.segment_ca.read_bytes())
    return connections.client(context)


@contextmanager
def _origin(
    config: AgentConfig, connections: RoamingConnections, ca: Path, url: str, pacer: Pacer
) -> Iterator[OriginHttps]:
    """The coordinator, or a public mirror, which the system's certificates vouch for; every piece is checked anyway."""
    source: Literal["web", "origin"] = "web" if config.web_mirror else "origin"
    context = ssl.create_default_context() if config.web_mirror else client_context(ca_pem=ca.read_bytes())

    def note(opened: socket.socket) -> None:
        connections.watch(opened)
        pacer.learn(TcpWindow(opened))

    with closing(Lines(config.web_mirror or url, context=context, opened=note)) as lines:
        yield OriginHttps(lines, source=source, pacing=pacer)


def _is_urgent(carriages: Carriages) -> bool:
    """Whether a critical release is on its way by torrent."""
    return any(
        carriage.release.manifest.manifest.severity is Severity.CRITICAL and not carriage.finished.is_set()
        for carriage in map(carriages.find, carriages.digests)
        if carriage is not None
    )


def _swarm_limits(config: AgentConfig) -> SwarmLimits:
    return SwarmLimits(
        connections=config.swarm.connections,
        upload_bytes_per_s=config.swarm.upload_bytes_per_second or None,
        download_bytes_per_s=config.swarm.download_bytes_per_second or None,
    )


def _platform() -> Platform:
    return Platform(
        system=platform.system().lower(),
        machine=platform.machine().lower(),
        installers=frozenset(entry.name for entry in entry_points(group="p2pd.installers")),
    )
