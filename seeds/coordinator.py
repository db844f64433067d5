# SPDX-License-Identifier: Apache-2.0
"""The coordinator's composition root: opens everything, starts everything in one nursery, serves until cancelled."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import trio

from p2pd.host.atomic_file import write_atomically
from p2pd.host.control_socket import ControlRefused, serve_requests
from p2pd.host.http_bounds import HttpLimits
from p2pd.host.http_server import Listener, serve_http
from p2pd.host.supervise import keep_running
from p2pd.host.telemetry import AsgiApp, metrics_app
from p2pd.host.wall_clock import WallClock
from seeds.adapters.http_api import MAX_AGENT_BODY_BYTES, agent_app, public_app
from seeds.adapters.metrics import CoordinatorMetrics
from seeds.adapters.rate_limit import SourceLimiter
from seeds.adapters.static_files import StaticFiles
from seeds.adapters.store import Store
from seeds.config import Address
from seeds.decisions.schedule_plan import offered
from seeds.fleet import Fleet
from seeds.services.changes import Changes
from seeds.services.enrolment import CertificateTerms, EnrolmentDesk
from seeds.services.health import HealthProbe
from seeds.services.online_keys import OnlineKeys
from seeds.services.renewal import OnlineRenewal
from seeds.services.reports import ReportDesk
from seeds.services.rollout_step import RolloutStep
from seeds.services.rollouts import Pace, Rollouts, RolloutsStalled, StepOutcome
from seeds.services.worker import Worker
from seeds.signers import open_online_keys
from signing.devices import SegmentAuthority
from signing.reasons import Reason
from signing.repository import Repository

Bound = tuple[tuple[str, int], ...]


@dataclass(frozen=True, kw_only=True)
class BoundAddresses:
    """Where the coordinator listens, with the ports that the kernel chose."""

    public: Bound
    agent: Bound
    metrics: Bound


@dataclass(frozen=True, kw_only=True, repr=False)
class _Opened:
    """What has to be opened, and can fail, before anything is served."""

    repository: Repository
    keys: OnlineKeys
    authorities: Mapping[str, SegmentAuthority]
    ca_pem: bytes


@dataclass(frozen=True, kw_only=True)
class _Services:
    """Everything that runs or answers, wired together."""

    public: AsgiApp
    agent: AsgiApp
    metrics: AsgiApp
    rollouts: Rollouts
    renewal: OnlineRenewal
    changes: Changes


async def run_coordinator(
    fleet: Fleet,
    *,
    passphrase: bytes,
    clock: WallClock | None = None,
    pace: Pace | None = None,
    task_status: trio.TaskStatus[BoundAddresses] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the fleet until cancelled; ready, with the bound addresses, once the first schedules are published.

    `passphrase` opens the online keys and the segment authorities. Raises BadInput or KeyUnavailable at the start.
    """
    clock = clock or WallClock()
    # Key files are opened by a deliberately slow derivation, which is not for the event loop.
    opened = await trio.to_thread.run_sync(partial(_open, fleet, passphrase))
    with Store(fleet.database) as store:
        services = _wire(fleet, opened, store, clock, pace or Pace(recheck_seconds=fleet.config.recheck_seconds))
        async with trio.open_nursery() as nursery:
            # Signed files are served first: they are good whatever becomes of the rollouts.
            bound = await _listen(fleet, services, nursery)
            await nursery.start(services.changes.close_when_cancelled)
            # Side by side: while one of them waits for better times, the others work.
            async with trio.open_nursery() as starting:
                for service in (
                    partial(keep_running, services.renewal.run, name="online_renewal"),
                    partial(keep_running, services.rollouts.run, name="rollouts"),
                    partial(serve_requests, fleet.control_socket, partial(_answer, services)),
                ):
                    starting.start_soon(nursery.start, service)
            task_status.started(bound)


def _open(fleet: Fleet, passphrase: bytes) -> _Opened:
    repository = Repository(fleet.repository)
    keys = open_online_keys(fleet, repository, passphrase)
    authorities = {segment: fleet.open_authority(segment, passphrase) for segment in fleet.config.segments}
    bundle = b"".join(fleet.read_segment_certificate(segment) for segment in fleet.config.segments)
    fleet.layout.client_ca.parent.mkdir(mode=0o700, exist_ok=True)
    write_atomically(fleet.layout.client_ca, bundle, mode=0o644)
    ca_pem = fleet.read_server_ca()
    return _Opened(repository=repository, keys=keys, authorities=authorities, ca_pem=ca_pem)


def _wire(fleet: Fleet, opened: _Opened, store: Store, clock: WallClock, pace: Pace) -> _Services:
    config, repository = fleet.config, opened.repository
    metrics = CoordinatorMetrics(lambda: clock.now().timestamp())
    changes = Changes(repository.timestamp_version())
    # Requests do not wait behind a long step or a renewal; the database keeps its own order among writers.
    for_requests, for_publishing, for_health = Worker(), Worker(), Worker()
    rollouts = Rollouts(
        take_step=RolloutStep(store=store, repository=repository, keys=opened.keys, clock=clock),
        worker=for_publishing,
        changes=changes,
        clock=clock,
        metrics=metrics,
        pace=pace,
    )
    enrolment = EnrolmentDesk(
        store=store,
        worker=for_requests,
        authorities=opened.authorities,
        metadata=fleet.repository / "metadata",
        agent_url=config.agent_url,
        terms=CertificateTerms(
            lifetime=timedelta(days=config.certificate_days),
            renewal_grace=timedelta(days=config.renewal_grace_days),
        ),
        clock=clock,
        metrics=metrics,
        on_enrolled=rollouts.poke,
    )
    public = public_app(
        files=StaticFiles(
            metadata=fleet.repository / "metadata", targets=fleet.repository / "targets", payloads=fleet.payloads
        ),
        ca_pem=opened.ca_pem,
        enrolment=enrolment,
        changes=changes,
        health=HealthProbe(
            store=store, repository=repository, directory=fleet.directory, worker=for_health, clock=clock
        ),
        limiter=SourceLimiter(per_second=config.enrolments_per_second, burst=config.enrolment_burst),
        max_long_polls=config.max_long_polls,
        metrics=metrics,
    )
    reports = ReportDesk(store=store, worker=for_requests, clock=clock, metrics=metrics, on_news=rollouts.poke)
    return _Services(
        public=public,
        agent=agent_app(reports=reports, metrics=metrics),
        metrics=metrics_app(metrics.registry),
        rollouts=rollouts,
        renewal=OnlineRenewal(
            repository=repository,
            keys=opened.keys,
            worker=for_publishing,
            changes=changes,
            clock=clock,
            metrics=metrics,
        ),
        changes=changes,
    )


async def _listen(fleet: Fleet, services: _Services, nursery: trio.Nursery) -> BoundAddresses:
    config, layout = fleet.config, fleet.layout

    async def bind(app: AsgiApp, addresses: tuple[Address, ...], listener: partial[Listener]) -> Bound:
        bound: list[tuple[str, int]] = []
        for address in addresses:
            serve = partial(serve_http, app, listener(host=address.host, port=address.port))
            bound += await nursery.start(partial(serve, drain_seconds=config.drain_seconds))
        return tuple(bound)

    tls = partial(Listener, certificate=layout.server_certificate, key=layout.server_key)
    # A long poll may keep each of its connections open, and everybody else must still get in.
    public = partial(tls, limits=HttpLimits(max_connections=config.max_long_polls + HttpLimits.max_connections))
    agent = partial(tls, client_ca=layout.client_ca, limits=HttpLimits(max_body_bytes=MAX_AGENT_BODY_BYTES))
    return BoundAddresses(
        public=await bind(services.public, config.public, public),
        agent=await bind(services.agent, config.agent, agent),
        metrics=await bind(services.metrics, config.metrics, partial(Listener)),
    )


async def _answer(services: _Services, verb: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    if arguments or verb not in ("recompute", "status"):
        raise ControlRefused(None, f"unknown request {verb!r}; known are recompute and status, without arguments")
    if verb == "status" and services.rollouts.outcome is not None:
        return _describe(services.rollouts.outcome)
    try:
        return _describe(await services.rollouts.recompute())
    except RolloutsStalled as problem:
        raise ControlRefused(Reason.COORDINATOR_UNAVAILABLE, str(problem)) from None


def _describe(outcome: StepOutcome) -> dict[str, Any]:
    rollouts = [
        {
            "product": rollout.product,
            "version": rollout.version,
            "release_counter": rollout.release_counter,
            "manifest_sha256": rollout.manifest_sha256,
            "state": rollout.state,
            "open_rings": rollout.open_rings,
            "reason": rollout.reason,
            "sentence": rollout.sentence,
        }
        for rollout in offered(outcome.rollouts)
    ]
    return {"timestamp_version": outcome.timestamp_version, "devices": len(outcome.devices), "rollouts": rollouts}
