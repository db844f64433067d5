# SPDX-License-Identifier: Apache-2.0
"""The composition root of the endpoint daemon: builds everything, opens the one nursery; nobody imports it."""

import platform
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path

import httpx
import trio
from prometheus_client import REGISTRY

from p2pd.adapters.coordinator_https import AgentClient, CoordinatorHttps
from p2pd.adapters.health_probe import SystemHealthProbe
from p2pd.adapters.identity_files import Enrolment, IdentityFiles
from p2pd.adapters.installer_socket import InstallerSocket
from p2pd.adapters.journal_files import JournalFiles
from p2pd.adapters.lan_mdns import open_lan
from p2pd.adapters.lan_mirror import mirror_app
from p2pd.adapters.origin_https import OriginHttps
from p2pd.adapters.payload_files import PayloadFiles
from p2pd.adapters.report_spool import ReportSpool
from p2pd.adapters.torrent_session import open_torrent_session
from p2pd.adapters.torrent_settings import SwarmLimits
from p2pd.adapters.trust_source import TrustSource
from p2pd.adapters.tuf_fetchers import HttpFetcher
from p2pd.config import AgentConfig, addresses, endpoints
from p2pd.decisions.ambassadors import Timing
from p2pd.host.control_socket import serve_requests
from p2pd.host.http_server import Listener, serve_http
from p2pd.host.live_certificate import LiveCertificate
from p2pd.host.supervise import keep_running
from p2pd.host.telemetry import log, metrics_app
from p2pd.host.tls import client_context
from p2pd.host.wall_clock import WallClock
from p2pd.ports import Installer, Lan, Origin, Swarm
from p2pd.ports_control import Coordinator, HealthProbe, Journal, PayloadStore, Spool, Trust
from p2pd.services.attempt import ReleaseTools
from p2pd.services.carrying import Carriages
from p2pd.services.control import Control
from p2pd.services.discovery import Discovery
from p2pd.services.metadata import MetadataKeeper
from p2pd.services.metrics import AgentMetrics
from p2pd.services.releases import Platform, Releases
from p2pd.services.renewing import Renewal
from p2pd.services.reporting import Reporter
from p2pd.services.site import Board, Identity

DRAIN_SECONDS = 2.0

_log = log(__name__)


@dataclass(frozen=True, kw_only=True)
class AgentParts:
    """Everything that an agent is made of: real adapters in the daemon, fakes in scenarios."""

    identity: Identity
    platform: Platform
    timing: Timing
    swarm: Swarm
    open_lan: Callable[[], AbstractAsyncContextManager[Lan]]
    origin: Origin
    coordinator: Coordinator
    trust: Trust
    installer: Installer
    journal: Journal
    spool: Spool
    store: PayloadStore
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


async def run_parts(parts: AgentParts, *, task_status: trio.TaskStatus[Agent] = trio.TASK_STATUS_IGNORED) -> None:
    """Run an agent until cancelled; report it as soon as it can be asked things, even if p2pd-install is away."""
    board = Board()
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
    reporter = Reporter(parts.spool, parts.coordinator, parts.clock, parts.identity, parts.metrics)
    tools = ReleaseTools(
        carriages=carriages,
        installer=parts.installer,
        journal=parts.journal,
        store=parts.store,
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
        await services.start(carriages.run)
        await services.start(reporter.run)
        await services.start(partial(keep_running, partial(_discover, parts, board), name="discovery"))
        await services.start(keeper.run)
        control = Control(board, releases, carriages, parts.identity, parts.clock)
        task_status.started(Agent(board=board, releases=releases, control=control))
        await services.start(partial(keep_running, releases.run, name="releases"))


async def run_agent(config: AgentConfig, *, config_path: Path) -> None:
    """Run the daemon with real adapters until cancelled. Raises BadInput for what a person must mend."""
    state_dir = Path(config.state_dir)
    files = IdentityFiles(state_dir)
    enrolment = files.load_enrolment()
    hosts = addresses(config.interfaces, where=f"{config_path}: interfaces")
    clock, metrics = WallClock(), AgentMetrics(REGISTRY)
    identity = Identity(device=enrolment.device, segment=enrolment.segment, site=enrolment.site)
    async with AsyncExitStack() as stack:
        public = await stack.enter_async_context(_client(files.coordinator_ca))
        agent_client = AgentClient(_agent_client(files))
        stack.push_async_callback(agent_client.aclose)
        shown = LiveCertificate(files.certificate, files.key)
        peers = await stack.enter_async_context(_peer_client(files, shown))
        swarm = await stack.enter_async_context(
            open_torrent_session(
                interfaces=endpoints(hosts, config.torrent_port),
                certificate_pem=files.certificate_pem(),
                key_pem=files.load_key().to_pem(),
                device=enrolment.device,
                limits=_swarm_limits(config),
            )
        )
        coordinator = CoordinatorHttps(public, agent_client, url=enrolment.url, agent_url=enrolment.agent_url)
        trust = _trust(state_dir, enrolment, identity, public, peers, clock)
        parts = AgentParts(
            identity=identity,
            platform=_platform(),
            timing=Timing(settle=config.swarm.settle_seconds, stall=config.swarm.stall_seconds),
            swarm=swarm,
            open_lan=partial(open_lan, hosts),
            origin=await _origin(stack, config, public, enrolment.url),
            coordinator=coordinator,
            trust=trust,
            installer=InstallerSocket(Path(config.installer_socket)),
            journal=JournalFiles(state_dir / "journal", trio.to_thread.run_sync),
            spool=ReportSpool(state_dir / "spool", files.load_key(), trio.to_thread.run_sync, read_unix=clock.unix),
            store=PayloadFiles(state_dir / "payloads", trio.to_thread.run_sync),
            probe=SystemHealthProbe(),
            clock=clock,
            metrics=metrics,
            mirror_port=config.mirror_port,
        )

        async def use_certificate(pem: bytes) -> None:
            await trio.to_thread.run_sync(files.save_certificate, pem)
            shown.reload()
            swarm.use_certificate(pem, files.load_key().to_pem())
            await agent_client.replace(_agent_client(files))

        renewal = Renewal(
            files.load_key(), files.load_certificate(), coordinator, clock, identity, metrics, use=use_certificate
        )
        async with trio.open_nursery() as nursery:
            await _serve_mirror(nursery, files, shown, trust.mirror, hosts, config.mirror_port)
            if config.metrics_port:
                listener = Listener(host=config.metrics_host, port=config.metrics_port)
                await nursery.start(partial(serve_http, metrics_app(REGISTRY), listener, drain_seconds=DRAIN_SECONDS))
            agent: Agent = await nursery.start(run_parts, parts)
            nursery.start_soon(renewal.run)
            await nursery.start(serve_requests, Path(config.control_socket), agent.control.handle)
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
    nursery: trio.Nursery,
    files: IdentityFiles,
    shown: LiveCertificate,
    mirror: Path,
    hosts: tuple[str, ...],
    port: int,
) -> None:
    """Signed metadata for the segment's own devices: mutual TLS by the segment's authority."""
    for host in hosts:
        listener = Listener(host=host, port=port, live=shown, client_ca=files.segment_ca)
        await nursery.start(partial(serve_http, mirror_app(mirror), listener, drain_seconds=DRAIN_SECONDS))


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


def _client(ca: Path) -> httpx.AsyncClient:
    return httpx.AsyncClient(verify=client_context(ca_pem=ca.read_bytes()), trust_env=False)


def _agent_client(files: IdentityFiles) -> httpx.AsyncClient:
    context = client_context(ca_pem=files.coordinator_ca.read_bytes(), certificate=files.certificate, key=files.key)
    return httpx.AsyncClient(verify=context, trust_env=False)


def _peer_client(files: IdentityFiles, shown: LiveCertificate) -> httpx.AsyncClient:
    # The segment's authority signs for its own devices only, so that the name in a certificate adds nothing.
    context = shown.peer_context(ca_pem=files.segment_ca.read_bytes())
    return httpx.AsyncClient(verify=context, trust_env=False)


async def _origin(stack: AsyncExitStack, config: AgentConfig, public: httpx.AsyncClient, url: str) -> OriginHttps:
    """The coordinator, or a public mirror, which the system's certificates vouch for; every piece is checked anyway."""
    if config.web_mirror:
        client = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
        return OriginHttps(client, config.web_mirror, source="web")
    return OriginHttps(public, url, source="origin")


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
