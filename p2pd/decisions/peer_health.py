# SPDX-License-Identifier: Apache-2.0
"""How a peer behaves towards this endpoint: strikes, bans that expire, and who drips. Every ban ends by itself."""

from collections.abc import Mapping
from dataclasses import dataclass

from signing.reasons import Reason

FIRST_BAN_SECONDS: Mapping[Reason, float] = {
    Reason.PEER_LOST: 2.0,  # it may be restarting
    Reason.PEER_UNREACHABLE: 5.0,
    Reason.PEER_SLOW: 30.0,
    Reason.PEER_CORRUPT: 60.0,
}
LONGEST_BAN_SECONDS = 600.0
FORGIVEN_AFTER_SECONDS = 600.0  # without a strike since the last ban ended
GOOD_AFTER_SECONDS = 30.0  # of being connected: a peer that comes and goes is not a good one each time it comes
_LAST_DOUBLING = 16  # the cap is reached long before


@dataclass(frozen=True, kw_only=True)
class Health:
    """What is held against a peer. `strikes` is 1 at least; moments are seconds on one monotonic clock."""

    strikes: int
    reason: Reason  # of the last strike
    banned_until: float


def struck(before: Health | None, reason: Reason, *, now: float) -> Health:
    """One more strike: a ban twice as long as for the strike before it. `reason` is one of FIRST_BAN_SECONDS.

    While a ban for something worse runs, a lesser strike changes nothing.
    """
    first = FIRST_BAN_SECONDS[reason]
    if before is not None and is_banned(before, now=now) and FIRST_BAN_SECONDS[before.reason] > first:
        return before
    forgotten = before is None or now >= before.banned_until + FORGIVEN_AFTER_SECONDS
    strikes = 1 if before is None or forgotten else before.strikes + 1
    seconds = min(LONGEST_BAN_SECONDS, first * 2.0 ** min(strikes - 1, _LAST_DOUBLING))
    return Health(strikes=strikes, reason=reason, banned_until=now + seconds)


def is_banned(health: Health | None, *, now: float) -> bool:
    """Whether it is left alone now."""
    return health is not None and now < health.banned_until


def is_forgiven(health: Health, *, connected_since: float | None, now: float) -> bool:
    """Whether nothing is held against it any more. `connected_since`: None while it is not connected."""
    if is_banned(health, now=now):
        return False
    if now >= health.banned_until + FORGIVEN_AFTER_SECONDS:
        return True
    is_about_the_link = health.reason in (Reason.PEER_LOST, Reason.PEER_UNREACHABLE)
    return is_about_the_link and connected_since is not None and now >= connected_since + GOOD_AFTER_SECONDS


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """What one connected peer offered and gave over a while."""

    offers_missing: bool  # all the while it claimed pieces that this endpoint lacks
    bytes_in: int  # payload, during that while


CRAWL_BYTES_PER_S = 16_384  # a thousandth of a slow Ethernet; one block of BitTorrent a second


def drips(deliveries: Mapping[str, Delivery], *, seconds: float, gained: int) -> frozenset[str]:
    """Peers that offered what is missing and sent almost nothing of it during `seconds`, while all went that slowly.

    `gained`: payload bytes from all peers in that time. As long as they come, whoever gives little may be slow for
    good reasons, and costs nothing; once only the drip is left, it must not keep anybody from asking elsewhere.
    """
    floor = CRAWL_BYTES_PER_S * seconds
    if gained >= floor:
        return frozenset()
    return frozenset(device for device, given in deliveries.items() if given.offers_missing and given.bytes_in < floor)
