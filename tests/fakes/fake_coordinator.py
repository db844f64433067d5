# SPDX-License-Identifier: Apache-2.0
"""The coordinator without HTTP: its real services on a fleet directory, called in place, behind an uplink.

Nothing here uses a thread, so that everything may run on a virtual clock.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import trio
from sqlalchemy import select

from p2pd.adapters.coordinator_https import POLL_SECONDS
from p2pd.host.latest import first_of
from p2pd.host.supervise import keep_running
from p2pd.host.wall_clock import WallClock
from p2pd.ports_control import CoordinatorUnavailable, Refused, ReportVerdict
from seeds.adapters.metrics import CoordinatorMetrics
from seeds.adapters.store import Store
from seeds.adapters.tables import reports
from seeds.fleet import Fleet
from seeds.ports import Enrolled
from seeds.ports import Refused as RefusedByCoordinator
from seeds.records import Rollout
from seeds.services.changes import Changes
from seeds.services.enrolment import CertificateTerms, EnrolmentDesk
from seeds.services.online_keys import OnlineKeys
from seeds.services.renewal import OnlineRenewal
from seeds.services.reports import ReportDesk
from seeds.services.rollout_step import RolloutStep
from seeds.services.rollouts import Pace, Rollouts
from seeds.services.tokens import TokenWish, issue_token
from seeds.services.worker import Worker
from signing.codec import decode, encode
from signing.devices import DeviceKey, SegmentAuthority
from signing.envelope import peek
from signing.report import Report
from signing.repository import Repository
from signing.schedule import Schedule, schedule_target
from tests.fakes.fake_uplink import FakeUplink

T = TypeVar("T")

CHECK_SECONDS = 600.0  # between looks for which there is no cause; all that matters here pokes


class InPlaceWorker(Worker):
    """Calls in the event loop instead of in a thread."""

    async def run(self, call: Callable[[], T]) -> T:
        """What `call` returns."""
        await trio.lowlevel.checkpoint()
        return call()


class FakeCoordinator:
    """The server. While `run` runs it takes rollout steps and renews its metadata; it answers in any case."""

    def __init__(
        self,
        fleet: Fleet,
        store: Store,
        *,
        keys: OnlineKeys,
        authorities: Mapping[str, SegmentAuthority],
        clock: WallClock,
        uplink: FakeUplink,
    ) -> None:
        self.uplink = uplink
        self.repository = Repository(fleet.repository)
        self.refuses_everything = False  # answers, but with an error that no repetition mends
        self.loses_answers = False  # does what it is asked, and the connection breaks before the answer
        self.changes = Changes(self.repository.timestamp_version())
        self._fleet = fleet
        self._store = store
        self._keys = keys
        self._clock = clock
        self._life = trio.CancelScope()
        self._worker, self._metrics = InPlaceWorker(), CoordinatorMetrics(lambda: clock.now().timestamp())
        self._rollouts = self._new_rollouts()
        self.desk = ReportDesk(store=store, worker=self._worker, clock=clock, metrics=self._metrics, on_news=self.poke)
        self.enrolment = EnrolmentDesk(
            store=store,
            worker=self._worker,
            authorities=authorities,
            metadata=fleet.repository / "metadata",
            agent_url=fleet.config.agent_url,
            terms=CertificateTerms(),
            clock=clock,
            metrics=self._metrics,
            on_enrolled=self.poke,
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Roll out and renew until `stop`; may be run again then, as a process that remembers nothing."""
        self._life, self._rollouts = trio.CancelScope(), self._new_rollouts()
        renewal = OnlineRenewal(
            repository=self.repository,
            keys=self._keys,
            worker=self._worker,
            changes=self.changes,
            clock=self._clock,
            metrics=self._metrics,
            check_seconds=CHECK_SECONDS,
        )
        with self._life:
            async with trio.open_nursery() as nursery:
                await nursery.start(partial(keep_running, renewal.run, name="online_renewal"))
                await nursery.start(partial(keep_running, self._rollouts.run, name="rollouts"))
                task_status.started()

    def stop(self) -> None:
        """No more steps and no more renewals: what is signed stays as it is, and grows old."""
        self._life.cancel()

    def poke(self) -> None:
        """What `p2pctl` does after publishing."""
        self._rollouts.poke()

    def _new_rollouts(self) -> Rollouts:
        return Rollouts(
            take_step=RolloutStep(store=self._store, repository=self.repository, keys=self._keys, clock=self._clock),
            worker=self._worker,
            changes=self.changes,
            clock=self._clock,
            metrics=self._metrics,
            pace=Pace(recheck_seconds=CHECK_SECONDS),
        )

    def line(self, client: str) -> "FakeCoordinatorLine":
        """The coordinator as `client` sees it."""
        return FakeCoordinatorLine(self, client)

    async def enrol(self, device: str, key: DeviceKey, *, segment: str, site: str) -> Enrolled:
        """Issue a token and spend it at once."""
        wish = TokenWish(segment=segment, site=site)
        token = issue_token(self._store, self._fleet.pins(), wish, who="administrator", now=self._clock.unix())
        return await self.enrolment.enrol(secret=token.secret, device=device, csr=key.csr(device))

    def misuse_keys(self, schedule: Schedule) -> None:
        """What a thief of the online keys does: sign any schedule, and tell everybody."""
        put = {schedule_target(schedule.site): encode(schedule)}
        self._keys.put_online(self.repository, put, now=self._clock.now())
        self.changes.announce(self.repository.timestamp_version())

    def schedule_of(self, site: str) -> Schedule:
        """The schedule that is published."""
        target = schedule_target(site)
        return decode(Schedule, self.repository.read_target("schedules", target) or b"", where=target)

    def rollout_of(self, manifest_sha256: str) -> Rollout:
        """How far a release has come."""
        with self._store.reading() as transaction:
            return next(r for r in transaction.rollouts() if r.manifest_sha256 == manifest_sha256)

    def reports_of(self, device: str) -> tuple[Report, ...]:
        """Everything that was kept of a device, in order of arrival."""
        found = select(reports.c.envelope).where(reports.c.device == device).order_by(reports.c.id)
        with self._store.reading() as transaction:
            envelopes = transaction.connection.execute(found).scalars().all()
        return tuple(peek(Report, envelope, where="kept report") for envelope in envelopes)


class FakeCoordinatorLine:
    """Implements `p2pd.ports_control.Coordinator` for one client."""

    def __init__(self, coordinator: FakeCoordinator, client: str) -> None:
        self._coordinator = coordinator
        self._client = client

    async def wait_for_change(self, timestamp_version: int) -> int:
        """See `Coordinator`."""
        await self._connect()
        changes, uplink = self._coordinator.changes, self._coordinator.uplink
        await first_of(
            partial(changes.newer_than, timestamp_version), partial(uplink.lost, self._client), seconds=POLL_SECONDS
        )
        await self._connect()
        return changes.version

    async def send_reports(self, envelopes: Sequence[bytes]) -> tuple[ReportVerdict, ...]:
        """See `Coordinator`."""
        await self._connect()
        outcomes = await self._coordinator.desk.accept(envelopes)
        if self._coordinator.loses_answers:
            raise CoordinatorUnavailable("the connection broke before the answer")
        return tuple(ReportVerdict(accepted=outcome.accepted, reason=outcome.reason) for outcome in outcomes)

    async def renew_certificate(self, envelope: bytes) -> bytes:
        """See `Coordinator`."""
        await self._connect()
        try:
            renewed = await self._coordinator.enrolment.renew(envelope)
        except RefusedByCoordinator as refusal:
            raise Refused(refusal.reason, str(refusal)) from None
        return renewed.certificate.encode()

    async def _connect(self) -> None:
        await trio.lowlevel.checkpoint()
        if not self._coordinator.uplink.reaches(self._client):
            raise CoordinatorUnavailable("the coordinator does not answer")
        if self._coordinator.refuses_everything:
            raise Refused(None, "HTTP 403")
