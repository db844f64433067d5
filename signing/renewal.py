# SPDX-License-Identifier: Apache-2.0
"""The renewal request: a device asks for a fresh certificate, signed with its device key in a DSSE envelope.

The envelope is the proof of identity, so that a device whose certificate has lapsed can still come back.
"""

from dataclasses import dataclass
from typing import ClassVar

from signing.bounds import MAX_COUNTER, check_count, check_name, check_range

MAX_CSR_CHARS = 8_192


@dataclass(frozen=True, kw_only=True)
class RenewalRequest:
    """`csr` is a PEM signing request for the key that the device enrolled with; `time` is Unix seconds."""

    document: ClassVar[str] = "p2pd.renewal"
    major: ClassVar[int] = 1
    minor: ClassVar[int] = 0
    max_bytes: ClassVar[int] = 16_384

    device: str
    csr: str
    time: int

    def __post_init__(self) -> None:
        check_name("device", self.device)
        check_count("csr", self.csr, MAX_CSR_CHARS, least=1)
        check_range("time", self.time, 0, MAX_COUNTER)
