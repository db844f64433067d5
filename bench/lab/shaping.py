# SPDX-License-Identifier: Apache-2.0
"""What `tc` is told so that an interface sends no faster than its link, and what it counts.

A token bucket with a plain first-in-first-out queue at each end of a link; the queue is as long as the link empties in
so many milliseconds. The bucket holds the largest frame that the kernel hands on (64 KiB of TCP and a header for each
of its packets): a smaller one splits these frames and costs ten times the processor time. So that a short queue still
takes several frames, hosts are told to make smaller ones where a link is slow.
"""

import json
from collections.abc import Iterable

from bench.lab.commands import run
from bench.lab.topology import LinkSpec, Rate

_BURST_BYTES = 72 * 1024
_BURST_SECONDS = 0.001  # of links so fast that the timer of the bucket comes later than it is empty
_LARGEST_FRAME = 65_536
_SMALLEST_FRAME = 16_384  # below it, hosts of slow links spend more time on packets than the lab can spare
_FRAMES_IN_QUEUE = 4
_UNLIMITED_PACKETS = 10_000  # of a link without a rate: its queue is there to count, and does not fill


def qdisc(interface: str, rate: Rate | None, queue_ms: float) -> str:
    """The line for `tc -batch` that makes `interface` send at `rate`."""
    if rate is None:
        return f"qdisc replace dev {interface} root pfifo limit {_UNLIMITED_PACKETS}"
    burst = max(_BURST_BYTES, round(rate / 8 * _BURST_SECONDS))
    return f"qdisc replace dev {interface} root tbf rate {rate}bit burst {burst} limit {queue_bytes(rate, queue_ms)}"


def queue_bytes(rate: Rate, queue_ms: float) -> int:
    """How long the queue is; never shorter than two of the smallest frames that hosts are told to make."""
    return max(2 * _SMALLEST_FRAME, _bytes_in(rate, queue_ms))


def largest_frame(links: Iterable[LinkSpec]) -> int:
    """How many bytes of TCP a host of these links hands on at once, so that a few of them fit each queue."""
    queues = [_bytes_in(rate, link.queue_ms) for link in links for rate in (link.up, link.down) if rate is not None]
    fitting = min(queues, default=_LARGEST_FRAME * _FRAMES_IN_QUEUE) // _FRAMES_IN_QUEUE
    return min(_LARGEST_FRAME, max(_SMALLEST_FRAME, fitting))


def sent_bytes(namespace: str) -> dict[str, int]:
    """What each interface of `namespace` has sent so far: Ethernet frames as they are on the wire.

    These are the queues' counters: those of the interfaces count the headers of a large frame once, not per packet.
    """
    listed = json.loads(run("tc", "-n", namespace, "-s", "-j", "qdisc", "show"))
    return {entry["dev"]: entry["bytes"] for entry in listed if entry.get("root")}


def _bytes_in(rate: Rate, milliseconds: float) -> int:
    return round(rate / 8 * milliseconds / 1_000)
