# SPDX-License-Identifier: Apache-2.0
"""Devices get certificates for tokens and for their own signatures, and for nothing else."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from seeds.adapters.metrics import CoordinatorMetrics
from seeds.adapters.store import Store, StoreUnavailable
from seeds.ports import Enrolled, Refused, Renewed
from seeds.services.enrolment import CertificateTerms, EnrolmentDesk
from seeds.services.interventions import remove_device
from seeds.services.tokens import Pins, TokenWish, issue_token
from seeds.services.worker import Worker
from signing.devices import DeviceKey, SegmentAuthority, read_device_certificate
from signing.envelope import seal
from signing.errors import BadInput
from signing.reasons import Reason
from signing.renewal import RenewalRequest
from signing.report import InstallState
from tests.seeds.fleet_kit import Endpoint
from tests.seeds.services.conftest import NOW, SetClock

PINS = Pins(url="https://origin", ca_sha256="c" * 64, root_sha256="d" * 64, root_version=3, segments=("office", "lab"))
DAY = 86_400


class Desk:
    """The enrolment desk of a fleet with one segment."""

    def __init__(
        self, directory: Path, store: Store, worker: Worker, clock: SetClock, metrics: CoordinatorMetrics
    ) -> None:
        self.store = store
        self.clock = clock
        self.metrics = metrics
        self.news = 0
        self.authority = SegmentAuthority.create("office", now=datetime.fromtimestamp(NOW, UTC))
        (directory / "3.root.json").write_text('{"root": 3}')
        self._desk = EnrolmentDesk(
            store=store,
            worker=worker,
            authorities={"office": self.authority},
            metadata=directory,
            agent_url="https://agents",
            terms=CertificateTerms(lifetime=timedelta(days=30), renewal_grace=timedelta(days=90)),
            clock=clock,
            metrics=metrics,
            on_enrolled=self._count,
        )

    def _count(self) -> None:
        self.news += 1

    def token(self, *, uses: int = 1, seconds: int = 60, device: str | None = None, segment: str = "office") -> str:
        wish = TokenWish(segment=segment, site="paris", uses=uses, seconds=seconds, device=device)
        return issue_token(self.store, PINS, wish, who="alice", now=self.clock.unix()).secret

    async def enrol(self, endpoint: Endpoint, secret: str) -> Enrolled:
        return await self._desk.enrol(secret=secret, device=endpoint.name, csr=endpoint.csr())

    async def renew(
        self, endpoint: Endpoint, *, signed_with: DeviceKey | None = None, csr: bytes | None = None, skew: int = 0
    ) -> Renewed:
        request = RenewalRequest(
            device=endpoint.name, csr=(csr or endpoint.csr()).decode(), time=self.clock.unix() + skew
        )
        return await self._desk.renew(seal(request, signed_with or endpoint.key))

    def count(self, request: str, outcome: str) -> float | None:
        labels = {"request": request, "outcome": outcome}
        return self.metrics.registry.get_sample_value("seeds_enrolments_total", labels)


@pytest.fixture
def desk(tmp_path: Path, store: Store, worker: Worker, clock: SetClock, metrics: CoordinatorMetrics) -> Desk:
    return Desk(tmp_path, store, worker, clock, metrics)


async def refusal(call: object) -> Reason:
    with pytest.raises(Refused) as caught:
        await call  # type: ignore[misc]  # any awaitable of the desk
    return caught.value.reason


async def test_a_token_buys_a_certificate_for_the_devices_own_key(desk: Desk) -> None:
    endpoint = Endpoint("pc-1")
    answer = await desk.enrol(endpoint, desk.token())

    certificate = read_device_certificate(answer.certificate.encode(), where="answer")
    assert (certificate.device, certificate.segments) == ("pc-1", ("office",))
    assert certificate.public_pem == endpoint.key.public_pem
    assert certificate.not_after.timestamp() == NOW + 30 * DAY
    assert (answer.site, answer.root, answer.agent_url) == ("paris", '{"root": 3}', "https://agents")
    assert answer.segment_ca.encode() == desk.authority.certificate_pem
    with desk.store.reading() as transaction:
        known = transaction.device("pc-1")
        (event,) = transaction.audit_of("device pc-1")
    assert known is not None
    assert (known.public_pem, known.site, known.enrolment) == (endpoint.key.public_pem, "paris", 1)
    assert (event.what, event.detail) == ("enrolled", "segment office, site paris")
    assert (desk.news, desk.count("enroll", "issued")) == (1, 1)


async def test_unknown_expired_and_spent_tokens_are_refused(desk: Desk) -> None:
    assert await refusal(desk.enrol(Endpoint("pc-1"), "guessed")) is Reason.TOKEN_UNKNOWN

    old = desk.token()
    desk.clock.time += 60
    assert await refusal(desk.enrol(Endpoint("pc-1"), old)) is Reason.TOKEN_EXPIRED

    once = desk.token()
    await desk.enrol(Endpoint("pc-1"), once)
    assert await refusal(desk.enrol(Endpoint("pc-2"), once)) is Reason.TOKEN_USED
    assert desk.count("enroll", Reason.TOKEN_USED) == 1
    assert desk.news == 1


async def test_a_token_for_many_counts_down(desk: Desk) -> None:
    secret = desk.token(uses=2)
    await desk.enrol(Endpoint("pc-1"), secret)
    await desk.enrol(Endpoint("pc-2"), secret)
    assert await refusal(desk.enrol(Endpoint("pc-3"), secret)) is Reason.TOKEN_USED


async def test_a_lost_answer_can_be_asked_for_again(desk: Desk) -> None:
    endpoint, secret = Endpoint("pc-1"), desk.token()
    await desk.enrol(endpoint, secret)
    assert (await desk.enrol(endpoint, secret)).device == "pc-1"


async def test_a_taken_name_is_refused_and_the_token_stays_good(desk: Desk) -> None:
    await desk.enrol(Endpoint("pc-1"), desk.token())
    secret = desk.token()
    assert await refusal(desk.enrol(Endpoint("pc-1"), secret)) is Reason.DEVICE_NAME_TAKEN
    assert (await desk.enrol(Endpoint("pc-2"), secret)).device == "pc-2"


async def test_a_token_for_the_name_replaces_the_key_and_forgets_what_the_old_one_said(desk: Desk) -> None:
    old, new = Endpoint("pc-1"), Endpoint("pc-1")
    await desk.enrol(old, desk.token())
    with desk.store.writing() as transaction:
        transaction.add_report(old.report(InstallState.COMMITTED), enrolment=1, envelope=b"", received_at=NOW)

    assert await refusal(desk.enrol(Endpoint("pc-2"), desk.token(device="pc-1"))) is Reason.TOKEN_OTHER_DEVICE
    await desk.enrol(new, desk.token(device="pc-1"))
    with desk.store.reading() as transaction:
        known = transaction.device("pc-1")
        assert known is not None
        assert (known.public_pem, known.enrolment) == (new.key.public_pem, 2)
        assert transaction.releases_of("pc-1") == ()


async def test_a_bad_signing_request_spends_nothing(desk: Desk) -> None:
    secret = desk.token()
    for csr in (b"", b"junk", Endpoint("pc-1").csr()[:-60]):
        with pytest.raises(BadInput, match="certificate signing request"):
            await desk._desk.enrol(secret=secret, device="pc-1", csr=csr)
    with pytest.raises(BadInput, match="device"):
        await desk._desk.enrol(secret=secret, device="../pc", csr=Endpoint("pc-1").csr())
    assert (await desk.enrol(Endpoint("pc-1"), secret)).device == "pc-1"


async def test_a_segment_without_an_authority_here_is_named(desk: Desk) -> None:
    with pytest.raises(BadInput, match="'lab' has no authority"):
        await desk.enrol(Endpoint("pc-1"), desk.token(segment="lab"))


async def test_a_root_that_is_gone_is_an_outage(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "3.root.json").unlink()
    secret = desk.token()
    with pytest.raises(StoreUnavailable, match=r"3\.root\.json"):
        await desk.enrol(Endpoint("pc-1"), secret)


async def test_a_device_renews_by_its_signature_even_after_expiry(desk: Desk) -> None:
    endpoint = Endpoint("pc-1")
    await desk.enrol(endpoint, desk.token())
    desk.clock.time += (30 + 89) * DAY
    renewed = await desk.renew(endpoint)
    certificate = read_device_certificate(renewed.certificate.encode(), where="answer")
    assert certificate.not_after.timestamp() == desk.clock.time + 30 * DAY
    assert certificate.public_pem == endpoint.key.public_pem

    desk.clock.time += (30 + 91) * DAY
    assert await refusal(desk.renew(endpoint)) is Reason.CERTIFICATE_EXPIRED
    assert desk.count("renew", Reason.CERTIFICATE_EXPIRED) == 1


async def test_a_removed_device_neither_renews_nor_comes_back_with_its_old_token(desk: Desk) -> None:
    endpoint, secret = Endpoint("pc-1"), desk.token()
    await desk.enrol(endpoint, secret)
    with desk.store.writing() as transaction:
        transaction.add_report(endpoint.report(InstallState.COMMITTED), enrolment=1, envelope=b"old", received_at=NOW)
    remove_device(desk.store, "pc-1", who="alice", why="stolen", now=NOW)
    assert await refusal(desk.renew(endpoint)) is Reason.DEVICE_UNKNOWN
    assert await refusal(desk.enrol(endpoint, secret)) is Reason.TOKEN_USED  # no repeat of a lost answer any more
    with desk.store.reading() as transaction:
        event = transaction.audit_of("device pc-1")[0]
    assert (event.who, event.what, event.detail) == ("alice", "removed", "stolen")

    await desk.enrol(endpoint, desk.token())
    with desk.store.reading() as transaction:
        known = transaction.device("pc-1")
        assert known is not None
        assert known.enrolment == 2  # so that the numbers of its old reports are free again
        assert transaction.envelope("pc-1", 1, 1) == b"old"


async def test_renewals_that_prove_nothing_are_refused(desk: Desk) -> None:
    endpoint = Endpoint("pc-1")
    await desk.enrol(endpoint, desk.token())
    assert await refusal(desk.renew(Endpoint("ghost"))) is Reason.DEVICE_UNKNOWN
    assert await refusal(desk.renew(endpoint, signed_with=DeviceKey.generate())) is Reason.SIGNATURE_INVALID
    assert await refusal(desk.renew(endpoint, skew=2 * DAY)) is Reason.CLOCK_SKEWED
    with pytest.raises(BadInput, match="another key"):
        await desk.renew(endpoint, csr=Endpoint("pc-1").csr())
    with pytest.raises(BadInput, match="DSSE"):
        await desk._desk.renew(b"{}")


def test_tokens_are_for_segments_that_exist_and_within_bounds(store: Store) -> None:
    with pytest.raises(BadInput, match="segments are: office, lab"):
        issue_token(store, PINS, TokenWish(segment="attic", site="paris"), who="alice", now=NOW)
    for wish in ({"uses": 0}, {"seconds": 0}, {"site": "../x"}, {"uses": 2, "device": "pc-1"}):
        with pytest.raises(ValueError, match=r"uses|seconds|site|device"):
            TokenWish(**{"segment": "office", "site": "paris", **wish})  # type: ignore[arg-type]  # on purpose


def test_the_store_knows_a_token_by_its_digest_only(store: Store, tmp_path: Path) -> None:
    made = issue_token(store, PINS, TokenWish(segment="office", site="paris"), who="alice", now=NOW)
    assert (made.url, made.ca_sha256, made.root_sha256) == (PINS.url, PINS.ca_sha256, PINS.root_sha256)
    store.close()
    for path in tmp_path.iterdir():
        assert made.secret.encode() not in path.read_bytes()
