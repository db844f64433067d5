# SPDX-License-Identifier: Apache-2.0
"""The report: one state change of one release on one device, signed by the device in a DSSE envelope."""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from signing.bounds import (
    MAX_COUNTER,
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
class Report:
    """`sequence` grows by one per report of a device, so a lost or replayed one shows. Times are Unix seconds."""

    document: ClassVar[str] = "p2pd.report"
    major: ClassVar[int] = 1
    minor: ClassVar[int] = 0
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
