# SPDX-License-Identifier: Apache-2.0
"""The report: one state change of one release on one device, signed by the device in a DSSE envelope."""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from signing.bounds import (
    MAX_COUNTER,
    MAX_RATE,
    MAX_ROUND_TRIP,
    MAX_TEXT_CHARS,
    check_count,
    check_name,
    check_product,
    check_range,
    check_sha256,
    check_version,
)
from signing.reasons import Reason


class InstallState(StrEnum):
    """Where a release stands on a device; wire values, so add and never rename."""

    FETCHING = "fetching"
    STAGED = "staged"
    VERIFIED = "verified"
    RESERVED = "reserved"
    INSTALLING = "installing"
    PROBATION = "probation"
    COMMITTED = "committed"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        """No event of this attempt can change it any more."""
        return self in (InstallState.COMMITTED, InstallState.ROLLED_BACK, InstallState.FAILED)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one endpoint saw of its links during one transfer: bytes per second, seconds. None: it saw too little.

    `wan_bytes_per_s` is what came to be at the whole site, `intake_bytes_per_s` what of it came to be here in the same
    time, and `origin_bytes_per_s` what this endpoint itself brought, while it asked the origin for anything.
    """

    wan_bytes_per_s: float | None = None
    intake_bytes_per_s: float | None = None
    origin_bytes_per_s: float | None = None
    lan_in_bytes_per_s: float | None = None  # the most in any few seconds …
    lan_out_bytes_per_s: float | None = None  # … so that it comes near to what the LAN can do
    origin_round_trip: float | None = None
    peer_round_trip: float | None = None  # the middle one of all peers'

    def __post_init__(self) -> None:
        for field in _RATES:
            _check_measured(field, getattr(self, field), MAX_RATE)
        for field in ("origin_round_trip", "peer_round_trip"):
            _check_measured(field, getattr(self, field), MAX_ROUND_TRIP)


_RATES = tuple(f"{name}_bytes_per_s" for name in ("wan", "intake", "origin", "lan_in", "lan_out"))


def _check_measured(field: str, value: float | None, most: float) -> None:
    if value is not None:
        check_range(field, value, 0.0, most)


@dataclass(frozen=True, kw_only=True)
class Report:
    """`sequence` grows by one per report of a device, so a lost or replayed one shows. Times are Unix seconds."""

    document: ClassVar[str] = "p2pd.report"
    major: ClassVar[int] = 1
    minor: ClassVar[int] = 1  # 1.1 brought `measured`
    max_bytes: ClassVar[int] = 16_384

    device: str
    sequence: int
    time: int
    product: str
    version: str
    manifest_sha256: str
    state: InstallState
    reason: Reason | None = None
    detail: str = ""
    previous_version: str | None = None
    bytes_lan: int = 0  # of the payload, from peers
    bytes_origin: int = 0  # of the payload, from the coordinator's origin
    bytes_web: int = 0  # of the payload, from other static mirrors
    seconds: float = 0.0  # since the attempt began
    measured: Measured | None = None  # with the end of a transfer only

    def __post_init__(self) -> None:
        check_name("device", self.device)
        check_range("sequence", self.sequence, 1, MAX_COUNTER)
        check_range("time", self.time, 0, MAX_COUNTER)
        check_product("product", self.product)
        check_version("version", self.version)
        check_sha256("manifest_sha256", self.manifest_sha256)
        check_count("detail", self.detail, MAX_TEXT_CHARS)
        if self.previous_version is not None:
            check_version("previous_version", self.previous_version)
        for field in ("bytes_lan", "bytes_origin", "bytes_web", "seconds"):
            check_range(field, getattr(self, field), 0, MAX_COUNTER)
