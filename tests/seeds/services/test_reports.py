# SPDX-License-Identifier: Apache-2.0
"""Reports count once, and only when the device that they name has signed them."""

import json
from dataclasses import replace
from typing import Any

import pytest

from seeds.adapters.metrics import CoordinatorMetrics
from seeds.adapters.store import Store
from seeds.ports import ReportOutcome
from seeds.services.reports import ReportDesk
from seeds.services.worker import Worker
from signing.reasons import Reason
from signing.report import InstallState
from tests.seeds.fleet_kit import Endpoint
from tests.seeds.services.conftest import NOW, SetClock

ACCEPTED = ReportOutcome(accepted=True)
REPEAT = ReportOutcome(accepted=True, is_repeat=True)


class Desk:
    """Where reports come in, and who is told of news."""

    def __init__(self, store: Store, worker: Worker, clock: SetClock, metrics: CoordinatorMetrics) -> None:
        self.store = store
        self.metrics = metrics
        self.news = 0
        self._desk = ReportDesk(store=store, worker=worker, clock=clock, metrics=metrics, on_news=self._count)

    def _count(self) -> None:
        self.news += 1

    def know(self, endpoint: Endpoint, *, enrolment: int = 1) -> Endpoint:
        with self.store.writing() as transaction:
            transaction.put_device(endpoint.as_record(enrolment=enrolment))
        return endpoint

    async def send(self, *envelopes: Any) -> tuple[ReportOutcome, ...]:
        return await self._desk.accept([json.dumps(envelope).encode() for envelope in envelopes])

    def state_of(self, device: str) -> InstallState | None:
        with self.store.reading() as transaction:
            said = transaction.said(["0" * 64])["0" * 64].get(device)
        return said.state if said else None

    def count(self, outcome: str) -> float | None:
        return self.metrics.registry.get_sample_value("seeds_reports_total", {"outcome": outcome})


@pytest.fixture
def desk(store: Store, worker: Worker, clock: SetClock, metrics: CoordinatorMetrics) -> Desk:
    return Desk(store, worker, clock, metrics)


async def test_a_signed_report_becomes_the_state_and_its_envelope_is_kept(desk: Desk) -> None:
    endpoint = desk.know(Endpoint("pc-1"))
    envelope = endpoint.seal(endpoint.report(InstallState.COMMITTED))
    assert await desk.send(envelope) == (ACCEPTED,)
    assert desk.state_of("pc-1") is InstallState.COMMITTED
    with desk.store.reading() as transaction:
        kept = transaction.envelope("pc-1", 1, 1)
    assert kept is not None
    assert json.loads(kept) == envelope
    assert (desk.news, desk.count("accepted")) == (1, 1)


async def test_a_repeat_is_accepted_and_changes_nothing(desk: Desk) -> None:
    endpoint = desk.know(Endpoint("pc-1"))
    report = endpoint.report(InstallState.COMMITTED)
    envelope = endpoint.seal(report)
    assert await desk.send(envelope, envelope) == (ACCEPTED, REPEAT)
    assert await desk.send(endpoint.seal(report)) == (REPEAT,)  # signed anew, which gives other bytes
    assert (desk.news, desk.count("repeat")) == (1, 2)


async def test_another_report_under_the_same_number_is_refused(desk: Desk) -> None:
    endpoint = desk.know(Endpoint("pc-1"))
    report = endpoint.report(InstallState.FAILED)
    await desk.send(endpoint.seal(report))
    clone = endpoint.seal(replace(report, state=InstallState.COMMITTED))
    assert await desk.send(clone) == (ReportOutcome(accepted=False, reason=Reason.SEQUENCE_REUSED),)
    assert desk.state_of("pc-1") is InstallState.FAILED


async def test_each_bad_envelope_is_refused_for_its_own_reason_and_the_rest_is_kept(desk: Desk) -> None:
    known, forger, ghost = desk.know(Endpoint("pc-1")), Endpoint("pc-1"), Endpoint("ghost")
    failed = known.report(InstallState.FAILED)
    tampered = known.seal(failed)
    tampered["payload"] = known.seal(replace(failed, state=InstallState.COMMITTED))["payload"]
    outcomes = await desk.send(
        forger.seal(forger.report(InstallState.COMMITTED)),
        ghost.seal(ghost.report(InstallState.COMMITTED)),
        {"payload": "!"},
        [],
        tampered,
        known.seal(known.report(InstallState.FETCHING)),
    )
    assert [outcome.reason for outcome in outcomes] == [
        Reason.SIGNATURE_INVALID,
        Reason.DEVICE_UNKNOWN,
        Reason.DOCUMENT_MALFORMED,
        Reason.DOCUMENT_MALFORMED,
        Reason.SIGNATURE_INVALID,
        None,
    ]
    assert [outcome.accepted for outcome in outcomes] == [False] * 5 + [True]
    assert desk.state_of("pc-1") is InstallState.FETCHING
    assert desk.count(Reason.SIGNATURE_INVALID) == 2


async def test_a_removed_device_is_unknown(desk: Desk) -> None:
    endpoint = desk.know(Endpoint("pc-1"))
    await desk.send(endpoint.seal(endpoint.report(InstallState.FAILED)))
    with desk.store.writing() as transaction:
        transaction.remove_device("pc-1", at=NOW)
    (refused,) = await desk.send(endpoint.seal(endpoint.report(InstallState.COMMITTED)))
    assert refused.reason is Reason.DEVICE_UNKNOWN
    assert desk.state_of("pc-1") is None


async def test_refusals_alone_are_no_news(desk: Desk) -> None:
    ghost = Endpoint("ghost")
    (outcome,) = await desk.send(ghost.seal(ghost.report(InstallState.COMMITTED)))
    assert not outcome.accepted
    assert desk.news == 0
    assert await desk.send() == ()


async def test_reports_out_of_order_leave_the_newest_state(desk: Desk) -> None:
    endpoint = desk.know(Endpoint("pc-1"))
    first, second = endpoint.report(InstallState.PROBATION), endpoint.report(InstallState.ROLLED_BACK)
    assert await desk.send(endpoint.seal(second)) == (ACCEPTED,)
    assert await desk.send(endpoint.seal(first)) == (ACCEPTED,)
    assert desk.state_of("pc-1") is InstallState.ROLLED_BACK


async def test_a_new_key_starts_its_own_count(desk: Desk) -> None:
    old = desk.know(Endpoint("pc-1"))
    await desk.send(old.seal(old.report(InstallState.FAILED)))
    new = desk.know(Endpoint("pc-1"), enrolment=2)
    with desk.store.writing() as transaction:
        transaction.forget_releases("pc-1")
    assert await desk.send(new.seal(new.report(InstallState.COMMITTED))) == (ACCEPTED,)
    (refused,) = await desk.send(old.seal(old.report(InstallState.FAILED)))
    assert refused.reason is Reason.SIGNATURE_INVALID
    assert desk.state_of("pc-1") is InstallState.COMMITTED
