# SPDX-License-Identifier: Apache-2.0
"""What the fleet may take of people's links, and when: budgets by calendar, and gates by the kind of network.

The same tables stand in the signed policy and in an endpoint's own configuration; the stricter one wins.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from signing.bounds import MAX_COUNTER, check_count, check_range, check_unique

MAX_HOURS = 32
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES = 24 * 60

_TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d|24:00")


class GateAction(StrEnum):
    """What an endpoint does on a network of some kind."""

    ALLOW = "allow"
    LAN_ONLY = "lan_only"  # nothing from the origin: pieces come from peers, as far as they have them
    WAIT = "wait"  # nothing from or to anybody


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Limits in bytes per second, and in percent of the measured link; 0: none. Of two, the lower counts.

    A WAN limit is the whole site's: its ambassadors divide it. A LAN limit is that of each endpoint, each way.
    """

    wan_bytes_per_second: int = 0
    wan_percent: float = 0.0
    lan_bytes_per_second: int = 0
    lan_percent: float = 0.0

    def __post_init__(self) -> None:
        check_range("wan_bytes_per_second", self.wan_bytes_per_second, 0, MAX_COUNTER)
        check_range("wan_percent", self.wan_percent, 0, 100)
        check_range("lan_bytes_per_second", self.lan_bytes_per_second, 0, MAX_COUNTER)
        check_range("lan_percent", self.lan_percent, 0, 100)


@dataclass(frozen=True, kw_only=True)
class Hours:
    """Other rates at certain hours of the endpoint's own time; past midnight if it ends before it begins."""

    rates: Rates
    days: tuple[str, ...] = ()  # mon … sun on which it begins; empty: every day
    begins: str = "00:00"
    ends: str = "24:00"

    def __post_init__(self) -> None:
        check_count("days", self.days, len(DAYS))
        check_unique("days", self.days)
        for day in self.days:
            if day not in DAYS:
                raise ValueError(f"days: {day!r} must be one of {', '.join(DAYS)}")
        for field in ("begins", "ends"):
            if not _TIME.fullmatch(getattr(self, field)):
                raise ValueError(f"{field} {getattr(self, field)!r} must be HH:MM between 00:00 and 24:00")
        if self.begins == self.ends or self.begins == "24:00":
            raise ValueError(f"begins {self.begins!r} and ends {self.ends!r} leave no time between them")

    @property
    def begins_minute(self) -> int:
        """Minutes after midnight."""
        return _minutes(self.begins)

    @property
    def ends_minute(self) -> int:
        """Minutes after the midnight at which its first day began; up to two days."""
        end = _minutes(self.ends)
        return end if end > self.begins_minute else end + DAY_MINUTES


@dataclass(frozen=True, kw_only=True)
class Budgets:
    """`rates` at all hours that none of `hours` covers; of those that do, the first."""

    rates: Rates = Rates()
    hours: tuple[Hours, ...] = ()
    critical_yields: bool = True  # whether patches of severity critical, too, leave the link to people

    def __post_init__(self) -> None:
        check_count("hours", self.hours, MAX_HOURS)


@dataclass(frozen=True, kw_only=True)
class NetworkGates:
    """What to do on metered links, through a VPN, and on a battery that has at most `battery_percent` left."""

    metered: GateAction = GateAction.LAN_ONLY
    vpn: GateAction = GateAction.ALLOW
    battery: GateAction = GateAction.ALLOW
    battery_percent: float = 40.0  # what Delivery Optimization recommends as its floor
    vpn_uploads: bool = False
    battery_uploads: bool = False

    def __post_init__(self) -> None:
        check_range("battery_percent", self.battery_percent, 0, 100)


NO_BUDGETS = Budgets()
DEFAULT_GATES = NetworkGates()
OPEN_GATES = NetworkGates(metered=GateAction.ALLOW, vpn_uploads=True, battery_uploads=True)
"""Adds nothing to what the policy demands."""


def _minutes(time: str) -> int:
    hours, _, minutes = time.partition(":")
    return int(hours) * 60 + int(minutes)
