# SPDX-License-Identifier: Apache-2.0
"""What the coordinator knows, as values: rows that cross between the store, the decisions and the services.

Times are Unix seconds, UTC. Nothing here does I/O.
"""

from dataclasses import dataclass
from enum import StrEnum

from signing.manifest import Manifest
from signing.reasons import Reason
from signing.report import InstallState, Measured
from signing.schedule import Draft

UNDONE = frozenset({InstallState.ROLLING_BACK, InstallState.ROLLED_BACK, InstallState.FAILED})
"""An attempt that has gone wrong. Only a new attempt leads out of these states."""


class RolloutState(StrEnum):
    """Where a release stands in the fleet; stored, so add and never rename."""

    WAITING = "waiting"  # known, no ring is open yet
    RUNNING = "running"
    HALTED = "halted"
    COMPLETE = "complete"
    WITHDRAWN = "withdrawn"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """One release on its way through the rings. `reason` and `sentence` say why it stands where it stands."""

    manifest_sha256: str
    product: str
    version: str
    release_counter: int
    segments: tuple[str, ...]  # the release is for these and can reach no others
    state: RolloutState = RolloutState.WAITING
    open_rings: int = 0  # rings 0 … open_rings - 1 may install
    drafted: tuple[Draft, ...] = ()
    passed_since: float | None = None  # when the newest open ring began to pass its gate without a break
    reason: Reason | None = None
    sentence: str = ""


def rollout_of(manifest: Manifest, manifest_sha256: str) -> Rollout:
    """The rollout of a release that nobody has been offered yet."""
    return Rollout(
        manifest_sha256=manifest_sha256,
        product=manifest.product,
        version=manifest.version,
        release_counter=manifest.release_counter,
        segments=manifest.segments,
    )


@dataclass(frozen=True, kw_only=True)
class Device:
    """An enrolled endpoint. `enrolment` grows by one when a new key takes over the name."""

    device: str
    segment: str
    site: str
    public_pem: bytes
    token_sha256: str  # the token that it last enrolled with, so that a repeated request is recognised
    enrolled_at: int
    certificate_expires: int
    enrolment: int = 1


@dataclass(frozen=True, kw_only=True)
class Token:
    """An enrolment token as the coordinator keeps it: the secret itself is known to its holder only."""

    secret_sha256: str
    segment: str
    site: str
    root_version: int  # the root whose digest the token pins; clients walk forward from it
    expires_at: int
    uses_left: int
    device: str | None = None  # set: good for this name only, and allowed to replace its key


@dataclass(frozen=True, kw_only=True)
class Said:
    """The latest that a device has said about a release, as far as rollouts are judged by it."""

    state: InstallState
    reason: Reason | None = None
    forgiven: bool = False  # an administrator let the rollout go on in spite of it


@dataclass(frozen=True, kw_only=True)
class Resumption:
    """An administrator wants a halted rollout to go on; kept until a step of the rollouts has seen to it."""

    id: int
    manifest_sha256: str


@dataclass(frozen=True, kw_only=True)
class DeviceRelease:
    """The latest that a device has said about one release."""

    device: str
    manifest_sha256: str
    product: str
    version: str
    state: InstallState
    reason: Reason | None
    sequence: int
    time: int
    detail: str
    bytes_lan: int
    bytes_origin: int
    bytes_web: int
    seconds: float
    forgiven: bool = False


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """The latest that an endpoint has seen of its links; `time` is when it measured anything last."""

    device: str
    time: int
    measured: Measured


@dataclass(frozen=True, kw_only=True)
class AuditEvent:
    """Who did what to what, when, and why."""

    time: int
    who: str
    what: str
    subject: str
    reason: Reason | None = None
    detail: str = ""
