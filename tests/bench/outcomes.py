# SPDX-License-Identifier: Apache-2.0
"""Runs for tests of figures: a LAN of two endpoints, ten seconds of limit."""

from collections.abc import Mapping
from typing import Any

from bench.outcome import Cost, Outcome

MB = 1_000_000


def outcome(finished: Mapping[str, float | None], **changes: Any) -> Outcome:
    """A run of `p2pd` in `flat-10` that ended so, and otherwise as usual but for `changes`."""
    usual: dict[str, Any] = {
        "scene": "flat-10",
        "contender": "p2pd",
        "payload_bytes": 100 * MB,
        "limit_seconds": 10.0,
        "cap_seconds": 120.0,
        "endpoints": {name: Cost(cpu_seconds=1.0, peak_rss_bytes=50 * MB) for name in finished},
        "origin": Cost(cpu_seconds=2.0, peak_rss_bytes=80 * MB),
        "idle_cpu_share": 0.001,
        "link_bytes": {"origin": (106 * MB, MB)} | dict.fromkeys(finished, (90 * MB, 105 * MB)),
        "origin_payload_bytes": 101 * MB,
    }
    return Outcome(finished=finished, **(usual | changes))
