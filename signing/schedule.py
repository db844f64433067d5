# SPDX-License-Identifier: Apache-2.0
"""The schedule of a site: who may install what now, signed online by the coordinator, bounded by the policy."""

from dataclasses import dataclass
from typing import ClassVar

from signing.bounds import (
    MAX_COUNTER,
    MAX_RATE,
    MAX_ROUND_TRIP,
    check_count,
    check_name,
    check_product,
    check_range,
    check_sha256,
    check_version,
)
from signing.policy import MAX_RINGS
from signing.reasons import Reason

MAX_MEMBERS = 5_000
MAX_OFFERS = 10_000  # as many as a list of a document may have; three releases of 3,333 products


@dataclass(frozen=True, kw_only=True)
class Member:
    """An endpoint of the site; a larger `weight` makes it the likelier ambassador."""

    device: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_name("device", self.device)
        check_range("weight", self.weight, 0.001, 1_000)


@dataclass(frozen=True, kw_only=True)
class SiteRates:
    """How fast the links of the site are, by what its endpoints measured: bytes per second, and seconds."""

    wan_bytes_per_s: float  # all of the site together, from the origin
    lan_bytes_per_s: float  # one endpoint, to its peers
    rtt_seconds: float | None = None  # to the origin; None: not known

    def __post_init__(self) -> None:
        check_range("wan_bytes_per_s", self.wan_bytes_per_s, 1.0, MAX_RATE)
        check_range("lan_bytes_per_s", self.lan_bytes_per_s, 1.0, MAX_RATE)
        if self.rtt_seconds is not None:
            check_range("rtt_seconds", self.rtt_seconds, 0.0, MAX_ROUND_TRIP)


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A device that the coordinator drafted into a ring which the stable hash left short."""

    device: str
    ring: int

    def __post_init__(self) -> None:
        check_name("device", self.device)
        check_range("ring", self.ring, 0, MAX_RINGS - 1)


@dataclass(frozen=True, kw_only=True)
class Offer:
    """One release that the site may have, as far as its rollout has come."""

    product: str
    version: str
    release_counter: int
    manifest_sha256: str
    open_rings: int  # rings 0 … open_rings - 1 may install
    halted: Reason | None = None  # set: nobody starts a new install
    drafted: tuple[Draft, ...] = ()

    def __post_init__(self) -> None:
        check_product("product", self.product)
        check_version("version", self.version)
        check_range("release_counter", self.release_counter, 1, MAX_COUNTER)
        check_sha256("manifest_sha256", self.manifest_sha256)
        check_range("open_rings", self.open_rings, 0, MAX_RINGS)
        check_count("drafted", self.drafted, MAX_MEMBERS)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """All offers to one site. Times are Unix seconds, UTC."""

    document: ClassVar[str] = "p2pd.schedule"
    major: ClassVar[int] = 1
    minor: ClassVar[int] = 1  # 1.1 brought `rates`
    max_bytes: ClassVar[int] = 4 * 2**20

    site: str
    policy_version: int
    issued: int
    expires: int
    members: tuple[Member, ...]
    offers: tuple[Offer, ...]
    rates: SiteRates | None = None  # None: too little was measured

    def __post_init__(self) -> None:
        check_name("site", self.site)
        check_range("policy_version", self.policy_version, 1, MAX_COUNTER)
        check_range("issued", self.issued, 0, MAX_COUNTER)
        check_range("expires", self.expires, self.issued, MAX_COUNTER)
        check_count("members", self.members, MAX_MEMBERS)
        check_count("offers", self.offers, MAX_OFFERS)


def schedule_target(site: str) -> str:
    """TUF target path of a site's schedule."""
    return f"schedules/{site}"
