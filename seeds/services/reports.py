# SPDX-License-Identifier: Apache-2.0
"""Signed reports come in: verified against the enrolled key, kept once, and told to the rollouts."""

from collections.abc import Callable, Mapping, Sequence
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
from signing.envelope import open_by_signer, peek
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
        outcomes, is_news = await self._worker.run(partial(self._accept, tuple(envelopes)))
        for outcome in outcomes:
            told = "repeat" if outcome.is_repeat else outcome.reason or "accepted"
            self._metrics.reports.labels(outcome=told).inc()
        if is_news:
            self._on_news()
        return outcomes

    def _accept(self, envelopes: tuple[bytes, ...]) -> tuple[tuple[ReportOutcome, ...], bool]:
        """What became of each, and whether any of it is news to the rollouts."""
        # Signatures are checked before the write lock is taken: a batch of them costs tens of milliseconds.
        with self._store.reading() as transaction:
            devices = _Devices(transaction)
            checked = [_verify(envelope, devices) for envelope in envelopes]
        batches: dict[tuple[str, int], dict[int, _Verified]] = {}  # of one device each, by place in the request
        for place, found in enumerate(checked):
            if isinstance(found, _Verified):
                batches.setdefault((found.report.device, found.enrolment), {})[place] = found
        outcomes = {place: found for place, found in enumerate(checked) if isinstance(found, ReportOutcome)}
        is_news = False
        if batches:
            now = self._clock.unix()
            with self._store.writing() as transaction:
                for (device, enrolment), batch in batches.items():
                    refusal = _standing_of(transaction.device(device), enrolment)
                    if refusal is not None:
                        outcomes.update(dict.fromkeys(batch, refusal))
                        continue
                    is_news |= _keep(transaction, device, enrolment, batch, outcomes, now)
        return tuple(outcomes[place] for place in range(len(checked))), is_news


class _Devices:
    """Keys of enrolled devices: looked up once for all reports of one."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self._known: dict[str, Device | None] = {}
        self.asked = ""  # for last

    def find(self, name: str) -> Device:
        """Raises _Unknown."""
        self.asked = name
        if name not in self._known:
            self._known[name] = self._transaction.device(name)
        device = self._known[name]
        if device is None:
            raise _UnknownDevice
        return device


class _UnknownDevice(Exception):
    """A report names a device that is not enrolled."""


def _verify(envelope: bytes, devices: _Devices) -> _Verified | ReportOutcome:
    try:
        report = open_by_signer(Report, envelope, lambda said: devices.find(said.device).public_pem, where="report")
    except _UnknownDevice:
        return ReportOutcome(accepted=False, reason=Reason.DEVICE_UNKNOWN)
    except BadInput:
        return ReportOutcome(accepted=False, reason=Reason.DOCUMENT_MALFORMED)
    except NotSigned:
        _log.warning("report refused", device=devices.asked, reason=Reason.SIGNATURE_INVALID)
        return ReportOutcome(accepted=False, reason=Reason.SIGNATURE_INVALID)
    return _Verified(report, devices.find(report.device).enrolment, envelope)


def _standing_of(device: Device | None, enrolment: int) -> ReportOutcome | None:
    """Why nothing of a device is kept that was enrolled when its signatures were checked, if it has changed since."""
    if device is None:
        return ReportOutcome(accepted=False, reason=Reason.DEVICE_UNKNOWN)  # it was removed
    if device.enrolment != enrolment:
        return ReportOutcome(accepted=False, reason=Reason.SIGNATURE_INVALID)  # another key took over the name
    return None


def _keep(
    transaction: Transaction,
    device: str,
    enrolment: int,
    batch: Mapping[int, _Verified],
    outcomes: dict[int, ReportOutcome],
    now: int,
) -> bool:
    """Keep what is new and say into `outcomes` what became of each; whether it is news to the rollouts."""
    kept = transaction.envelopes(device, enrolment, {found.report.sequence for found in batch.values()})
    new: dict[int, _Verified] = {}
    for place, found in batch.items():
        sequence = found.report.sequence
        earlier = new[sequence].envelope if sequence in new else kept.get(sequence)
        if earlier is None:
            new[sequence] = found
            outcomes[place] = ReportOutcome(accepted=True)
        # A device may seal the same report anew, and signatures differ each time: what counts is what it says.
        elif peek(Report, earlier, where="kept report") == found.report:
            outcomes[place] = ReportOutcome(accepted=True, is_repeat=True)
        else:
            _log.warning("report refused", device=device, reason=Reason.SEQUENCE_REUSED, sequence=sequence)
            outcomes[place] = ReportOutcome(accepted=False, reason=Reason.SEQUENCE_REUSED)
    added = [(found.report, found.envelope) for found in new.values()]
    return transaction.add_reports(device, enrolment, added, received_at=now)
