# SPDX-License-Identifier: Apache-2.0
"""Certificates for devices: a first one for a token, later ones for the device's own signature."""

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path

from p2pd.host.atomic_file import read_bounded
from p2pd.host.telemetry import log
from p2pd.host.wall_clock import WallClock
from seeds.adapters.metrics import CoordinatorMetrics
from seeds.adapters.store import Store, StoreUnavailable
from seeds.adapters.transaction import Transaction
from seeds.decisions.enrolment_rules import is_repeat, judge_enrolment, judge_renewal
from seeds.ports import Enrolled, Refused, Renewed
from seeds.records import AuditEvent, Device, Token
from seeds.services.tokens import digest_of
from seeds.services.worker import Worker
from signing.bounds import check_name
from signing.devices import DeviceCertificate, SegmentAuthority, read_device_certificate
from signing.envelope import open_envelope, peek
from signing.errors import BadInput, NotSigned
from signing.reasons import Reason
from signing.renewal import RenewalRequest

MAX_ROOT_BYTES = 524_288

_log = log(__name__)


@dataclass(frozen=True, kw_only=True)
class CertificateTerms:
    """How long certificates live, and for how long after that a device may still come back by itself."""

    lifetime: timedelta = timedelta(days=30)
    renewal_grace: timedelta = timedelta(days=90)


class EnrolmentDesk:
    """Implements `seeds.ports.Enrolment`."""

    def __init__(
        self,
        *,
        store: Store,
        worker: Worker,
        authorities: Mapping[str, SegmentAuthority],
        metadata: Path,
        agent_url: str,
        terms: CertificateTerms,
        clock: WallClock,
        metrics: CoordinatorMetrics,
        on_enrolled: Callable[[], None],
    ) -> None:
        self._store = store
        self._worker = worker
        self._authorities = authorities
        self._metadata = metadata
        self._agent_url = agent_url
        self._terms = terms
        self._clock = clock
        self._metrics = metrics
        self._on_enrolled = on_enrolled

    async def enrol(self, *, secret: str, device: str, csr: bytes) -> Enrolled:
        """Spend a use of a token on a first certificate, or on a new key where the token says so."""
        try:
            enrolled = await self._worker.run(partial(self._enrol, secret, device, csr))
        except (Refused, BadInput) as problem:
            self._metrics.enrolments.labels(request="enroll", outcome=problem.reason).inc()
            raise
        self._metrics.enrolments.labels(request="enroll", outcome="issued").inc()
        _log.info("device enrolled", device=device, segment=enrolled.segment, site=enrolled.site)
        self._on_enrolled()
        return enrolled

    async def renew(self, envelope: bytes) -> Renewed:
        """Issue a fresh certificate for the key that the device enrolled with."""
        try:
            renewed = await self._worker.run(partial(self._renew, envelope))
        except (Refused, BadInput) as problem:
            self._metrics.enrolments.labels(request="renew", outcome=problem.reason).inc()
            raise
        self._metrics.enrolments.labels(request="renew", outcome="issued").inc()
        return renewed

    def _enrol(self, secret: str, device: str, csr: bytes) -> Enrolled:
        try:
            check_name("device", device)
        except ValueError as problem:
            raise BadInput("enrolment request", str(problem)) from None
        digest, now = digest_of(secret), self._clock.unix()
        # Strangers are turned away before they can take the write lock or cost a signature.
        with self._store.reading() as transaction:
            if _matching(transaction.token(digest), digest) is None:
                raise Refused(Reason.TOKEN_UNKNOWN)
        with self._store.writing() as transaction:
            token = _matching(transaction.token(digest), digest)
            known = transaction.device(device)
            authority = self._authority(token.segment) if token else None
            if token is None or authority is None:
                raise Refused(Reason.TOKEN_UNKNOWN)
            pem, certificate = self._issue(authority, csr, device)
            reason = judge_enrolment(
                token,
                known,
                device=device,
                public_pem=certificate.public_pem,
                site_members=transaction.count_site(token.site),
                now=now,
            )
            if reason is not None:
                raise Refused(reason)
            root = self._root(token.root_version)
            _keep(transaction, token, known, certificate, now)
        return Enrolled(
            device=device,
            segment=token.segment,
            site=token.site,
            certificate=pem.decode(),
            segment_ca=authority.certificate_pem.decode(),
            root=root.decode(),
            agent_url=self._agent_url,
        )

    def _renew(self, envelope: bytes) -> Renewed:
        where = "renewal request"
        name = peek(RenewalRequest, envelope, where=where).device
        with self._store.reading() as transaction:
            known = transaction.device(name)
        if known is None:
            raise Refused(Reason.DEVICE_UNKNOWN)
        try:
            asked = open_envelope(RenewalRequest, envelope, known.public_pem, where=where)
        except NotSigned:
            raise Refused(Reason.SIGNATURE_INVALID) from None
        now = self._clock.unix()
        grace_seconds = self._terms.renewal_grace.total_seconds()
        reason = judge_renewal(known, asked_at=asked.time, grace_seconds=grace_seconds, now=now)
        if reason is not None:
            raise Refused(reason)
        authority = self._authority(known.segment)
        pem, certificate = self._issue(authority, asked.csr.encode(), name)
        if certificate.public_pem != known.public_pem:
            # With a new key, an answer lost on its way would leave the device with a key that nobody knows.
            raise BadInput(where, "asks for another key than the device enrolled with", "enrol again to change it")
        expires = int(certificate.not_after.timestamp())
        with self._store.writing() as transaction:
            current = transaction.device(name)
            if current is None:
                raise Refused(Reason.DEVICE_UNKNOWN)  # it was removed meanwhile
            if current.enrolment != known.enrolment:
                raise Refused(Reason.SIGNATURE_INVALID)  # another key took over the name meanwhile
            transaction.put_device(replace(current, certificate_expires=expires))
            transaction.add_audit(
                AuditEvent(time=now, who=f"device {name}", what="certificate renewed", subject=f"device {name}")
            )
        ca = authority.certificate_pem.decode()
        return Renewed(device=name, segment=known.segment, certificate=pem.decode(), segment_ca=ca)

    def _authority(self, segment: str) -> SegmentAuthority:
        try:
            return self._authorities[segment]
        except KeyError:
            raise BadInput("segment", f"{segment!r} has no authority at this coordinator") from None

    def _issue(self, authority: SegmentAuthority, csr: bytes, device: str) -> tuple[bytes, DeviceCertificate]:
        pem = authority.issue(csr, device=device, now=self._clock.now(), lifetime=self._terms.lifetime)
        return pem, read_device_certificate(pem, where="issued certificate")

    def _root(self, version: int) -> bytes:
        path = self._metadata / f"{version}.root.json"
        try:
            return read_bounded(path, MAX_ROOT_BYTES)
        except OSError as problem:
            raise StoreUnavailable(f"{path.name}: {problem.strerror}") from problem


def _matching(token: Token | None, digest: str) -> Token | None:
    # The database compares as it likes; the last word is in constant time.
    return token if token is not None and hmac.compare_digest(token.secret_sha256, digest) else None


def _keep(
    transaction: Transaction, token: Token, known: Device | None, certificate: DeviceCertificate, now: int
) -> None:
    if not is_repeat(token, known, certificate.public_pem):
        transaction.put_token(replace(token, uses_left=token.uses_left - 1))
    has_new_key = known is not None and known.public_pem != certificate.public_pem
    if has_new_key:
        transaction.forget_releases(certificate.device)
    is_same = known is not None and not has_new_key
    transaction.put_device(
        Device(
            device=certificate.device,
            segment=token.segment,
            site=token.site,
            public_pem=certificate.public_pem,
            token_sha256=token.secret_sha256,
            enrolled_at=now,
            certificate_expires=int(certificate.not_after.timestamp()),
            enrolment=transaction.last_enrolment(certificate.device) + (0 if is_same else 1),
        )
    )
    transaction.add_audit(
        AuditEvent(
            time=now,
            who=f"token {token.secret_sha256[:12]}",
            what="enrolled with a new key" if has_new_key else "enrolled",
            subject=f"device {certificate.device}",
            detail=f"segment {token.segment}, site {token.site}",
        )
    )
