# SPDX-License-Identifier: Apache-2.0
"""Reads the fleet's documents one by one after a refresh, and goes on when one of them cannot be read.

What the whole fleet goes by (policy, schedule, segment certificate, the role that signs releases) has the last value
that was ever verified here to fall back on; `general_problem` then says that nothing new may be installed on its word.
A single release that cannot be read is a problem of its own.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from p2pd.host.atomic_file import read_bounded, write_atomically
from p2pd.host.telemetry import log
from p2pd.ports_control import OfferProblem, StorageFailed, Trusted, TrustProblem
from signing.codec import Document, decode, encode
from signing.errors import BadInput, NotListed, SigningError, SourceUnavailable
from signing.manifest import manifest_target
from signing.mirror import Mirror
from signing.policy import Policy
from signing.reasons import Reason
from signing.schedule import Offer, Schedule
from signing.trust import MAX_CERTIFICATE_BYTES, TrustClient
from signing.verified import VerifiedManifest

RELEASE_ROLE = "patches"

D = TypeVar("D", bound=Document)

_log = log(__name__)


class KnownGood:
    """The newest of each document that was verified, read and understood here, in a directory of the daemon's own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def keep(self, name: str, data: bytes) -> None:
        """Remember `data`. A disk that does not take it costs only what might be needed later, so that is said."""
        try:
            if self.recall(name, len(data)) != data:
                self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_atomically(self._directory / name, data)
        except OSError as problem:
            _log.error("verified document not remembered", document=name, why=str(problem))

    def recall(self, name: str, max_bytes: int) -> bytes | None:
        """What was remembered, if anything."""
        try:
            return read_bounded(self._directory / name, max_bytes)
        except (OSError, BadInput):
            return None


class PatientReading:
    """Everything that one endpoint needs out of one snapshot. `client` has just been refreshed."""

    def __init__(self, client: TrustClient, known_good: KnownGood) -> None:
        self.general_problem: TrustProblem | None = None
        self.problems: list[OfferProblem] = []
        self._client = client
        self._known_good = known_good

    def policy(self) -> Policy:
        """The fleet's policy. Raises what reading it raises, if none was ever read here."""
        try:
            policy = self._client.policy()
        except (SigningError, OSError) as problem:
            self._stop_installing("policy", problem)
            known = self._known_document(Policy, "policy")
            if known is None:
                raise
            return known
        self._known_good.keep("policy", encode(policy))
        return policy

    def schedule(self, site: str) -> Schedule | None:
        """The site's schedule; None when none is signed, or none was ever read here."""
        try:
            schedule = self._client.schedule(site)
        except NotListed:
            return None
        except (SigningError, OSError) as problem:
            self._stop_installing("schedule", problem)
            return self._known_document(Schedule, "schedule")
        self._known_good.keep("schedule", encode(schedule))
        return schedule

    def segment_certificate(self, segment: str) -> bytes:
        """The segment's authority. Raises what reading it raises, if it was never read here."""
        try:
            pem = self._client.segment_certificate(segment)
        except (SigningError, OSError) as problem:
            self._stop_installing("segment certificate", problem)
            known = self._known_good.recall("segment-ca", MAX_CERTIFICATE_BYTES)
            if known is None:
                raise
            return known
        self._known_good.keep("segment-ca", pem)
        return pem

    def manifests(
        self, offers: Sequence[Offer], segment: str, *, before: Trusted | None
    ) -> tuple[VerifiedManifest, ...]:
        """The manifests of `offers`, each with its torrents fetched.

        One that nobody brings now stays as it was in the view `before`; one that is not what was signed is left out.
        """
        self._prefetch(offers)
        found: list[VerifiedManifest] = []
        no_release: SigningError | OSError | None = None
        for offer in offers:
            failure = no_release  # asking again for each release would fetch the broken role again for each
            if failure is None:
                try:
                    found.append(self._manifest(offer, segment, before))
                    continue
                except (SigningError, OSError) as problem:
                    failure = problem
            if RELEASE_ROLE not in self._client.versions():
                no_release = failure
            self.problems.append(_offer_problem(offer, failure))
            known = before.manifest_of(offer.manifest_sha256) if before is not None else None
            if known is not None and (no_release or isinstance(failure, SourceUnavailable | OSError)):
                found.append(known)
        if no_release is not None:
            self._stop_installing("releases", no_release)
        elif self.problems:
            _log.warning("offers unreadable", count=len(self.problems), newest=self.problems[-1].detail)
        return tuple(found)

    def store(self, mirror: Mirror) -> None:
        """Bring the mirror up to date. Without it p2pd-install would judge by what was signed before."""
        try:
            mirror.publish(self._client)
            self._client.prune_cache()
        except OSError as problem:
            self._stop_installing("mirror", problem)

    def _prefetch(self, offers: Sequence[Offer]) -> None:
        try:
            self._client.prefetch_manifests((offer.product, offer.version) for offer in offers)
        except (SigningError, OSError) as problem:
            _log.info("manifests not fetched together", why=str(problem))  # reading them says what that means

    def _manifest(self, offer: Offer, segment: str, before: Trusted | None) -> VerifiedManifest:
        known = before.manifest_of(offer.manifest_sha256) if before is not None else None
        is_known = known is not None and known.manifest.target == manifest_target(offer.product, offer.version)
        if known is not None and is_known and self._client.holds(known):
            manifest = known  # read and hashed when it came; thousands of them take seconds
        else:
            manifest = self._client.manifest(offer.product, offer.version)
        if manifest.sha256 != offer.manifest_sha256:
            raise BadInput(manifest.manifest.target, "is not the manifest that the schedule names")
        for transport, _ in manifest.manifest.torrents_for(segment):
            self._client.torrent(manifest, segment, transport.content.sha256)
        return manifest

    def _known_document(self, cls: type[D], name: str) -> D | None:
        data = self._known_good.recall(name, cls.max_bytes)
        try:
            return decode(cls, data, where=f"known-good {name}") if data is not None else None
        except BadInput as problem:
            _log.error("remembered document unreadable", document=name, why=str(problem))
            return None

    def _stop_installing(self, what: str, problem: SigningError | OSError) -> None:
        """Keep the first; what follows is mostly the same trouble again."""
        _log.warning("metadata incomplete", what=what, reason=_reason(problem), why=str(problem))
        if self.general_problem is None:
            self.general_problem = TrustProblem(reason=_reason(problem), detail=f"{what}: {problem}")


def _offer_problem(offer: Offer, problem: SigningError | OSError) -> OfferProblem:
    return OfferProblem(
        product=offer.product,
        version=offer.version,
        manifest_sha256=offer.manifest_sha256,
        reason=_reason(problem),
        detail=str(problem),
    )


def _reason(problem: SigningError | OSError) -> Reason:
    return problem.reason if isinstance(problem, SigningError) else StorageFailed(problem).reason
