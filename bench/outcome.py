# SPDX-License-Identifier: Apache-2.0
"""What one run of one contender gave: plain figures, to and from JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one host's processes took, from the start of a race to its end."""

    cpu_seconds: float
    peak_rss_bytes: int


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One run. Times are seconds after the start; bytes by link are those on the wire, `[up, down]`."""

    scene: str
    contender: str
    payload_bytes: int
    limit_seconds: float
    cap_seconds: float  # when the run was ended for whoever had not finished
    finished: Mapping[str, float | None]  # by endpoint; None: not by the cap. Endpoints that were killed are left out
    endpoints: Mapping[str, Cost]
    origin: Cost
    idle_cpu_share: float  # of one core, by an endpoint before the start, on average
    link_bytes: Mapping[str, tuple[int, int]]
    origin_payload_bytes: int | None = None  # as the origin's own log or metrics tell; None: it does not tell
    busiest_wan_bytes: int | None = None  # into the site that took most; None: there is no WAN
    killed: tuple[str, ...] = field(default=())

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @staticmethod
    def from_plain(plain: Mapping[str, Any]) -> "Outcome":
        """What `to_plain` gave. Raises KeyError or TypeError for anything else."""
        return Outcome(
            **{
                **plain,
                "endpoints": {name: Cost(**cost) for name, cost in plain["endpoints"].items()},
                "origin": Cost(**plain["origin"]),
                "link_bytes": {name: (up, down) for name, (up, down) in plain["link_bytes"].items()},
                "killed": tuple(plain["killed"]),
            }
        )
