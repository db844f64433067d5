# SPDX-License-Identifier: Apache-2.0
"""The policy: what the coordinator may ask of endpoints, signed offline by the `policies` role."""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from signing.bounds import (
    MAX_COUNTER,
    MAX_PAYLOAD_BYTES,
    MAX_SECONDS,
    check_count,
    check_name,
    check_range,
    check_unique,
)
from signing.budgets import DEFAULT_GATES, NO_BUDGETS, Budgets, NetworkGates

POLICY_TARGET = "policies/fleet"
MAX_RINGS = 16
MAX_PINS = 500


@dataclass(frozen=True, kw_only=True)
class Gate:
    """When a ring has proved a release: rate *and* count, both ways. Missing evidence means wait."""

    success_percent: float = 100.0  # committed ÷ members of the ring
    success_count: int = 1
    error_percent: float = 0.0  # failed ÷ members, above which the rollout halts …
    error_count: int = 1  # … once at least this many have failed
    soak_seconds: float = 0.0

    def __post_init__(self) -> None:
        check_range("success_percent", self.success_percent, 0, 100)
        check_range("success_count", self.success_count, 1, MAX_COUNTER)
        check_range("error_percent", self.error_percent, 0, 100)
        check_range("error_count", self.error_count, 1, MAX_COUNTER)
        check_range("soak_seconds", self.soak_seconds, 0, MAX_SECONDS)


@dataclass(frozen=True, kw_only=True)
class Ring:
    """Members of a ring: pinned devices, and a share of the rest by stable hash.

    `at_least` lets the coordinator draft that many devices into a ring that the hash left short, so that a small
    fleet has a canary too. A draft is bounded by this signed number, so a stolen coordinator gains that much only.
    """

    name: str
    devices: tuple[str, ...] = ()
    percent: float = 0.0
    at_least: int = 0
    gate: Gate = Gate()

    def __post_init__(self) -> None:
        check_name("ring name", self.name)
        check_count("devices", self.devices, MAX_PINS)
        for device in self.devices:
            check_name("device", device)
        check_range("percent", self.percent, 0, 100)
        check_range("at_least", self.at_least, 0, MAX_PINS)


class DeltaFallback(StrEnum):
    """Whether an endpoint whose delta cannot be used may fetch the full payload."""

    NEVER = "never"
    BUDGET = "budget"  # if it is within `delta_fallback_bytes`
    ALWAYS = "always"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds that schedules keep and agents check."""

    schedule_seconds: float = 86_400.0  # the longest life of a signed schedule
    delta_fallback: DeltaFallback = DeltaFallback.ALWAYS
    delta_fallback_bytes: int = 0  # the largest full transport that one endpoint may fetch in a delta's place
    budgets: Budgets = NO_BUDGETS
    network: NetworkGates = DEFAULT_GATES

    def __post_init__(self) -> None:
        check_range("schedule_seconds", self.schedule_seconds, 60, MAX_SECONDS)
        check_range("delta_fallback_bytes", self.delta_fallback_bytes, 0, MAX_PAYLOAD_BYTES)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Rings in the order in which they open; the last takes everyone that no earlier ring took."""

    document: ClassVar[str] = "p2pd.policy"
    major: ClassVar[int] = 1
    minor: ClassVar[int] = 1
    max_bytes: ClassVar[int] = 262_144

    version: int
    segments: tuple[str, ...]
    rings: tuple[Ring, ...]
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        check_range("version", self.version, 1, MAX_COUNTER)
        check_count("segments", self.segments, 64, least=1)
        for segment in self.segments:
            check_name("segment", segment)
        check_unique("segments", self.segments)
        check_count("rings", self.rings, MAX_RINGS, least=1)
        check_unique("rings", tuple(ring.name for ring in self.rings))

    def ring_of(self, device: str, drafted: tuple[tuple[str, int], ...] = ()) -> int:
        """Index of the ring that `device` belongs to: pins first, then drafts, then the stable hash, else the last.

        The hash point does not depend on the ring list's names, so that editing one ring moves few devices.
        """
        for index, ring in enumerate(self.rings):
            if device in ring.devices:
                return index
        for name, index in drafted:
            if name == device:
                return index
        point, floor = ring_point(device), 0.0
        for index, ring in enumerate(self.rings):
            floor += ring.percent
            if point < floor:
                return index
        return len(self.rings) - 1


def ring_point(device: str) -> float:
    """A device's fixed place on the percentage scale: 0 <= point < 100, by SHA-256 of its name."""
    return int.from_bytes(hashlib.sha256(b"p2pd ring\0" + device.encode()).digest()[:8]) / 2**64 * 100
