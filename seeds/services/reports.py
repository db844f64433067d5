# SPDX-License-Identifier: Apache-2.0
"""Signed reports come in: verified against the enrolled key, kept once, and told to the rollouts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from p2pd.host.telemetry import log
from p2pd.host.wall_clock import WallClock
from seeds.adapters.metrics import CoordinatorMetrics
from seeds.adapters.store import Store
from seeds.adapters.transaction import Transaction
from seeds.ports import ReportOutcome
from seeds.records import Device
from seeds.services.worker import Worker
from signing.envelope import open_envelope, peek
from signing.errors import BadInput, NotSigned
from signing.reasons import Reason
from signing.report import Report

_log = log(__name__)


@dataclass(frozen=True)
class _Verified:
    report: Report
    enrolment: int
    envelope: bytes


class ReportDesk:
    """Implements `seeds.ports.ReportIntake`."""

    def __init__(
        self,
        *,
        store: Store,
        worker: Worker,
        clock: WallClock,
        metrics: CoordinatorMetrics,
        on_news: Callable[[], None],
    ) -> None:
        self._store = store
        self._worker = worker
        self._clock = clock
        self._metrics = metrics
        self._on_news = on_news

    async def accept(self, envelopes: Sequence[bytes]) -> tuple[ReportOutcome, ...]:
        """Verify and keep each envelope; what is accepted is on disk when this returns."""
        outcomes = await self._worker.run(partial(self._accept, tuple(envelopes)))
        for outcome in outcomes:
            told = "repeat" if outcome.is_repeat else outcome.reason or "accepted"
            self._metrics.reports.labels(outcome=told).inc()
        if any(outcome.accepted and not outcome.is_repeat for outcome in outcomes):
            self._on_news()
        return outcomes

    def _accept(self, envelopes: tuple[bytes, ...]) -> tuple[ReportOutcome, ...]:
        # Signatures are checked before the write lock is taken: a batch of them costs tens of milliseconds.
        with self._store.reading() as transaction:
            checked = [_verify(envelope, transaction) for envelope in envelopes]
        if not any(isinstance(found, _Verified) for found in checked):
            return tuple(found for found in checked if isinstance(found, ReportOutcome))
        now = self._clock.unix()
        with self._store.writing() as transaction:
            return tuple(
                found if isinstance(found, ReportOutcome) else _keep(transaction, found, now) for found in checked
            )


def _verify(envelope: bytes, transaction: Transaction) -> _Verified | ReportOutcome:
    try:
        name = peek(Report, envelope, where="report").device
        device = transaction.device(name)
        if device is None:
            return ReportOutcome(accepted=False, reason=Reason.DEVICE_UNKNOWN)
        report = open_envelope(Report, envelope, device.public_pem, where="report")
    except BadInput:
        return ReportOutcome(accepted=False, reason=Reason.DOCUMENT_MALFORMED)
    except NotSigned:
        _log.warning("report refused", device=name, reason=Reason.SIGNATURE_INVALID)
        return ReportOutcome(accepted=False, reason=Reason.SIGNATURE_INVALID)
    return _Verified(report, device.enrolment, envelope)


def _keep(transaction: Transaction, found: _Verified, now: int) -> ReportOutcome:
    report = found.report
    device: Device | None = transaction.device(report.device)
    if device is None:
        return ReportOutcome(accepted=False, reason=Reason.DEVICE_UNKNOWN)  # it was removed between the transactions
    if device.enrolment != found.enrolment:
        # Another key took over the name between the two transactions.
        return ReportOutcome(accepted=False, reason=Reason.SIGNATURE_INVALID)
    kept = transaction.envelope(report.device, found.enrolment, report.sequence)
    if kept is None:
        transaction.add_report(report, enrolment=found.enrolment, envelope=found.envelope, received_at=now)
        return ReportOutcome(accepted=True)
    # A device may seal the same report anew, and signatures differ each time: what counts is what it says.
    if peek(Report, kept, where="kept report") == report:
        return ReportOutcome(accepted=True, is_repeat=True)
    _log.warning("report refused", device=report.device, reason=Reason.SEQUENCE_REUSED, sequence=report.sequence)
    return ReportOutcome(accepted=False, reason=Reason.SEQUENCE_REUSED)
