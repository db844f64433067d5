# SPDX-License-Identifier: Apache-2.0
"""How several patches share one site's links: by severity, and nobody is forgotten.

The next request goes to the patch that would be the earliest to have its share (start-time fair queueing: Goyal, Vin &
Cheng 1996): what has come of each is divided by its weight. All of it counts, by whomever it was brought, since other
endpoints of the site bring over the same link, and divide it by the same severities.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from signing.manifest import Severity

K = TypeVar("K", bound=Hashable)

WEIGHTS: Mapping[Severity, int] = {
    Severity.LOW: 1,
    Severity.MODERATE: 2,
    Severity.IMPORTANT: 4,
    Severity.CRITICAL: 64,  # as good as alone, and still the others do not stand quite still for a day
}
REQUEST_BYTES = 2**20  # what the next request is taken for when patches are compared


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One patch. `spent` are the bytes of it that have come, divided by its weight, from where it joined."""

    weight: int
    spent: float = 0.0
    under_way: int = 0  # requests
    limit: int = 1  # as many requests as seem to fill the link, to one who has it alone
    wants: bool = False  # could make a request now, or others of the site are making them

    @property
    def is_active(self) -> bool:
        """Whether it uses the link, or would."""
        return self.wants or self.under_way > 0


def may_begin(me: K, claims: Mapping[K, Claim]) -> bool:
    """Whether the patch `me`, which wants to, may make one more request now.

    All together make as many as the one that allows itself most; so the first to be denied when all are taken is also
    the first to get the next.
    """
    active = {key: claim for key, claim in claims.items() if claim.is_active or key == me}
    if sum(claim.under_way for claim in active.values()) >= max(claim.limit for claim in active.values()):
        return False
    mine = _due(claims[me])
    return all(mine <= _due(claim) for key, claim in active.items() if key != me and claim.wants)


def joined(claim: Claim, others: Mapping[K, Claim]) -> Claim:
    """`claim` as it begins to want something: what it did not want before it has not saved up.

    Nor does it pay for what it got while nobody else wanted anything.
    """
    spent = [other.spent for other in others.values() if other.is_active]
    if not spent:
        return claim
    return Claim(
        weight=claim.weight,
        spent=min(max(claim.spent, min(spent)), max(spent)),
        under_way=claim.under_way,
        limit=claim.limit,
        wants=claim.wants,
    )


def _due(claim: Claim) -> float:
    """When its next request would have had its share."""
    return claim.spent + REQUEST_BYTES / claim.weight


PRESSING_SECONDS = 1.0  # of its pace that a patch lacks and peers have: less is under way anyhow
PRESSING_PIECES = 2  # … and so many pieces, the pace being slow
LEAST_LAN_RATE = 65_536.0  # bytes per second that nobody is held below


@dataclass(frozen=True, kw_only=True)
class LanLeg:
    """What one patch moves between this endpoint and its peers."""

    weight: int
    backlog: int = 0  # bytes that it lacks and peers have
    piece_bytes: int = 0
    pace: float = 0.0  # bytes per second that came from peers lately

    @property
    def is_pressing(self) -> bool:
        """Whether more of it could come over the LAN than does. What nobody sends, though they offer it, cannot."""
        return self.pace > 0 and self.backlog > self.pace * PRESSING_SECONDS + self.piece_bytes * PRESSING_PIECES


def lan_limits(legs: Mapping[K, LanLeg], *, link: float) -> Mapping[K, float | None]:
    """Bytes per second, each way, that each patch may move here; None: no limit.

    Whatever is less severe than a pressing patch is held to its share by weight of `link`, the most that the LAN
    brought in a second lately. A patch that gets all that there is of it presses nobody, so that no link lies idle.
    """
    pressing = [leg.weight for leg in legs.values() if leg.is_pressing]
    limits: dict[K, float | None] = {}
    for key, leg in legs.items():
        above = sum(weight for weight in pressing if weight > leg.weight)
        limits[key] = max(LEAST_LAN_RATE, link * leg.weight / (leg.weight + above)) if above else None
    return limits
