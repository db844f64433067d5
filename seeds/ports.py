# SPDX-License-Identifier: Apache-2.0
"""The sockets in the wall: what the HTTP adapter asks of the services, and the values that cross over."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from signing.reasons import Reason, explain


class Refused(Exception):
    """A request was understood and turned down; `reason` says why, the message is for people."""

    def __init__(self, reason: Reason, message: str = "") -> None:
        super().__init__(message or explain(reason))
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class Enrolled:
    """What a new device takes home. Certificates are PEM, `root` is the TUF root that its token pins, in JSON."""

    device: str
    segment: str
    site: str
    certificate: str
    segment_ca: str
    root: str
    agent_url: str


@dataclass(frozen=True, kw_only=True)
class Renewed:
    """A fresh certificate in PEM, and the authority that issued it."""

    device: str
    segment: str
    certificate: str
    segment_ca: str


@dataclass(frozen=True, kw_only=True)
class ReportOutcome:
    """What became of one envelope. A report that was known already is accepted again: it needs no second try."""

    accepted: bool
    reason: Reason | None = None
    is_repeat: bool = False


@dataclass(frozen=True, kw_only=True)
class Health:
    """The answer to /healthz: the facts carry no paths, since anyone may ask."""

    healthy: bool
    facts: Mapping[str, object]


class Enrolment(Protocol):
    """Issues certificates to devices. Both raise Refused, BadInput, or StoreUnavailable."""

    async def enrol(self, *, secret: str, device: str, csr: bytes) -> Enrolled:
        """Spend a token."""

    async def renew(self, envelope: bytes) -> Renewed:
        """Issue a fresh certificate to a known device."""


class ReportIntake(Protocol):
    """Takes signed reports in."""

    async def accept(self, envelopes: Sequence[bytes]) -> tuple[ReportOutcome, ...]:
        """One outcome per envelope, in order. Raises StoreUnavailable when none could be kept."""


class ChangeFeed(Protocol):
    """Knows the newest timestamp version, and wakes those who wait for a newer one."""

    @property
    def version(self) -> int:
        """The newest."""

    async def newer_than(self, version: int) -> int:
        """Return the newest version as soon as it exceeds `version`."""


class HealthCheck(Protocol):
    """Says whether the coordinator can do its work."""

    async def check(self) -> Health:
        """Look now."""
