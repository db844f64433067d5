# SPDX-License-Identifier: Apache-2.0
"""A token bucket for every source address, in a table of bounded size."""

import ipaddress
from collections import OrderedDict


class SourceLimiter:
    """Grants each source `burst` requests at once and `per_second` after that.

    A full table forgets whoever was quiet longest, so that no flood of addresses takes more memory.
    """

    def __init__(self, *, per_second: float, burst: float, max_sources: int = 4_096) -> None:
        self._per_second = per_second
        self._burst = burst
        self._max_sources = max_sources
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # source: tokens left, at time

    def wait_seconds(self, address: str, now: float) -> float:
        """0 when the request is granted (and counted), else how long to wait. `now` is monotonic."""
        source = _source_of(address)
        left, at = self._buckets.pop(source, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._per_second)
        granted = left >= 1
        self._buckets[source] = (left - 1 if granted else left, now)
        if len(self._buckets) > self._max_sources:
            self._buckets.popitem(last=False)
        return 0.0 if granted else (1 - left) / self._per_second

    def __len__(self) -> int:
        return len(self._buckets)


def _source_of(address: str) -> str:
    # One subscriber of IPv6 has a whole /64 to send from.
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((ip.packed, 64), strict=False))
    return str(ip)
