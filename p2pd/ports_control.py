# SPDX-License-Identifier: Apache-2.0
"""The sockets in the wall, control side: trust, coordinator, durable records, health probes, threads.

`ports.py` holds those of the data plane. The same rule: one real adapter each, and fakes that pass the same tests.
"""

import errno
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

from p2pd.host.supervise import ServiceFailure
from p2pd.ports import Endpoint
from signing.manifest import CommandCheck, HttpCheck, TcpCheck
from signing.policy import Policy
from signing.reasons import Reason
from signing.recall import RecallList
from signing.report import InstallState, Measured, Report
from signing.schedule import Schedule
from signing.verified import VerifiedManifest, VerifiedPayload

T = TypeVar("T")


class RunSync(Protocol):
    """Runs a blocking function: `trio.to_thread.run_sync`, or in place for tests on a virtual clock."""

    async def __call__(self, sync_fn: Callable[..., T], *args: Any) -> T: ...


@dataclass(frozen=True, kw_only=True)
class TrustProblem:
    """Why nothing new may be installed on the word of what is trusted."""

    reason: Reason
    detail: str


@dataclass(frozen=True, kw_only=True)
class OfferProblem:
    """Why one offer of the schedule could not be read; it says nothing about the others."""

    product: str
    version: str
    manifest_sha256: str
    reason: Reason
    detail: str


@dataclass(frozen=True, kw_only=True)
class Trusted:
    """One verified view of the fleet's signed documents, as far as they concern this endpoint.

    `recalls` are always of the newest snapshot, whatever else could not be read. What could not is as it was verified
    last, and then there is a `general_problem`: such a view undoes, recognises and explains, but starts nothing new.
    """

    timestamp_version: int
    policy: Policy
    schedule: Schedule | None  # None: no schedule names this site yet
    recalls: RecallList
    manifests: tuple[VerifiedManifest, ...]  # one per offer of the schedule that could ever be read
    expiries: Mapping[str, datetime]  # by TUF role
    segment_ca_pem: bytes
    general_problem: TrustProblem | None = None
    problems: tuple[OfferProblem, ...] = ()  # in the order of the schedule

    def manifest_of(self, sha256: str) -> VerifiedManifest | None:
        """The verified manifest with that digest, if it is offered."""
        return self._by_sha256.get(sha256)

    @cached_property
    def _by_sha256(self) -> Mapping[str, VerifiedManifest]:
        return {manifest.sha256: manifest for manifest in self.manifests}


@dataclass(frozen=True)
class FromOrigin:
    """Fetch metadata from the coordinator or any static copy of it."""

    newest: int = 0  # the timestamp version that the coordinator told of; 0: nobody told


@dataclass(frozen=True)
class FromDisk:
    """Verify again what an earlier refresh left in the local mirror."""


@dataclass(frozen=True)
class FromPeer:
    """Fetch metadata from a peer's mirror on the LAN."""

    endpoint: Endpoint


MetadataSource = FromOrigin | FromDisk | FromPeer


class Trust(Protocol):
    """The trust client, asynchronously."""

    @property
    def mirror(self) -> Path:
        """Directory with the verified metadata and targets as an origin would serve them."""

    async def refresh(self, source: MetadataSource) -> Trusted:
        """Fetch and verify; on success the mirror holds what was verified.

        Once the recalls are read it succeeds; `Trusted` says what else could not be. Until then, and as long as there
        is no earlier good value to go by, it raises signing.errors.SigningError, or StorageFailed. May be cancelled.
        """

    async def torrent(self, manifest: VerifiedManifest, transport_sha256: str | None = None) -> bytes:
        """The verified torrent file of `manifest` for this endpoint's segment: of that transport, or of the full one.

        Raises SigningError, StorageFailed.
        """


@dataclass(frozen=True, kw_only=True)
class ReportVerdict:
    """What the coordinator made of one report; a refusal is final, so sending it again is no use."""

    accepted: bool
    reason: Reason | None


class Coordinator(Protocol):
    """The coordinator's HTTP interface.

    Every call raises CoordinatorUnavailable when trying again may help, and Refused.
    """

    async def wait_for_change(self, timestamp_version: int) -> int:
        """Return the newest timestamp version, at once when it is newer, else after a server-side wait."""

    async def send_reports(self, envelopes: Sequence[bytes]) -> tuple[ReportVerdict, ...]:
        """Hand over signed reports, oldest first; one verdict each."""

    async def renew_certificate(self, envelope: bytes) -> bytes:
        """Exchange a signed renewal request for a new device certificate in PEM."""


class CoordinatorUnavailable(Exception):
    """The coordinator cannot be reached, or says that it is overloaded."""


class Refused(Exception):
    """The coordinator understood and said no."""

    def __init__(self, reason: Reason | None, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One release's way through this endpoint, durable at every step. Moments are Unix seconds."""

    product: str
    version: str
    release_counter: int
    manifest_sha256: str
    manifest: bytes
    state: InstallState
    began: int
    reason: Reason | None = None
    detail: str = ""
    previous_version: str | None = None
    bytes_lan: int = 0
    bytes_origin: int = 0
    bytes_web: int = 0
    seconds: float = 0.0
    measured: Measured | None = None  # by the transfer that brought it
    transport_sha256: str = ""  # of the transport that it uses, a delta perhaps; empty until one is chosen


@dataclass(frozen=True, kw_only=True)
class ProductRecord:
    """What this endpoint remembers of one product."""

    attempt: Attempt | None = None
    quarantined: tuple[str, ...] = ()  # manifest digests that failed here, oldest first
    is_told: bool = False  # the attempt has ended, and the report of it is in the spool
    committed: bytes = b""  # the manifest that was committed before `attempt` began: deltas build upon its payload


class Journal(Protocol):
    """Durable memory of attempts: what `save` wrote is there after a power cut. Both may raise StorageFailed."""

    async def load(self) -> dict[str, ProductRecord]:
        """All products' records."""

    async def save(self, product: str, record: ProductRecord) -> None:
        """Replace one product's record, durably and atomically."""


class Spool(Protocol):
    """Signed reports that the coordinator has not acknowledged yet, on disk, in order.

    Every method may raise StorageFailed, having changed nothing that shows; it may be called again.
    """

    async def append(self, *reports: Callable[[int], Report]) -> None:
        """Number, sign and store reports, all or none; each is made from its sequence number."""

    async def oldest(self, most: int) -> tuple[tuple[int, bytes], ...]:
        """Up to `most` stored envelopes with their sequence numbers, oldest first."""

    async def count(self) -> int:
        """How many envelopes are stored."""

    async def discard(self, *sequences: int) -> None:
        """Forget envelopes that the coordinator has taken or refused for good."""

    async def renumber(self, first: int) -> int:
        """Give new numbers, far above all others, to the reports from `first` on, in order; the first of them.

        For a spool that was restored from a copy, whose numbers the coordinator has seen under other reports.
        """


class StorageFailed(ServiceFailure):
    """Our own disk could not be read or written: full, read-only, broken. `reason` tells a full one from the rest."""

    def __init__(self, problem: OSError) -> None:
        super().__init__(str(problem))
        self.reason = Reason.DISK_FULL if problem.errno in (errno.ENOSPC, errno.EDQUOT) else Reason.STORAGE_FAILED


class PayloadStore(Protocol):
    """Transport files by their SHA-256, below one directory. Every method may raise StorageFailed."""

    def directory(self, sha256: str) -> Path:
        """Where the swarm may write the transport with that digest."""

    async def make_room(self, sha256: str, size: int) -> None:
        """Raise PayloadStoreFull unless what is still missing of `size` bytes fits, with some to spare."""

    async def verify(self, manifest: VerifiedManifest, sha256: str, name: str) -> VerifiedPayload:
        """Read the finished transport back and hash it. Raises ContentMismatch."""

    async def read_ahead(self, sha256: str, name: str, until: int) -> None:
        """Hash a transport that is still coming, as far as it is on disk (`until`, an offset): then `verify` is short.

        One call at a time for each; `make_room` begins anew.
        """

    async def has(self, sha256: str, name: str) -> bool:
        """Whether a transport, finished or not, lies on disk."""

    async def discard(self, sha256: str) -> None:
        """Remove a transport; nothing happens when it is not there."""

    async def retain(self, wanted: frozenset[str]) -> None:
        """Remove every transport but these."""


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """One health check's outcome; `detail` says in a line what was seen."""

    passed: bool
    detail: str


class HealthProbe(Protocol):
    """Runs one health check against the active slot."""

    async def run(self, check: CommandCheck | HttpCheck | TcpCheck, *, slot: Path) -> ProbeResult:
        """Never raises for what the check finds; ends within the check's own time limit."""
