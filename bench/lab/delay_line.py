# SPDX-License-Identifier: Apache-2.0
"""The process that delays and loses packets between pairs of TAP devices: where the kernel has no netem.

    python -m bench.lab.delay_line       # what it is told and answers, by lines of JSON, is in bench.lab.delay

It makes its devices in the namespace that it runs in (moved from there, they stay its own), keeps the order of packets,
and delays each by at least what was asked, and by about a millisecond more. Which packets get lost is decided by a
seeded generator for each direction: the same packets give the same losses. Large TCP frames pass whole and count as the
packets that they stand for: see `bench.lab.segments`.
"""

import errno
import fcntl
import json
import os
import random
import select
import struct
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from bench.lab.segments import packet_count, without_lost

_DEVICE = "/dev/net/tun"
_TUNSETIFF, _TUNSETOFFLOAD = 0x400454CA, 0x400454D0  # and the flags below: include/uapi/linux/if_tun.h
_TAP_WITH_HEADERS = 0x0002 | 0x1000 | 0x4000  # IFF_TAP, IFF_NO_PI, IFF_VNET_HDR
_OFFLOADS = 0x01 | 0x02 | 0x04  # TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6
_MAX_FRAME_BYTES = 70_000  # 64 KiB of TCP and IP, Ethernet, virtio_net_hdr
_MAX_QUEUED_BYTES = 64 * 1024 * 1024  # a direction; more than 5 s at 100 Mbit/s, and then it loses packets
_READS_PER_TURN = 64  # of one direction, before the others have theirs
_LOST_AT_A_CUT = (errno.EIO, errno.EAGAIN, errno.ENOBUFS)  # the other device is down, or full
_STDIN = 0


def tap_names(number: int) -> tuple[str, str]:
    """The devices of line `number`: towards the host, and towards the network."""
    return f"delay{number}i", f"delay{number}o"


class Direction:
    """The frames that are on their way from one device to the other."""

    def __init__(self, generator: random.Random, write: Callable[[bytes], object]) -> None:
        """Frames come out by `write`, which raises OSError when the device does not take them."""
        self.delay_seconds = 0.0
        self.loss = 0.0
        self._generator = generator
        self._write = write
        self._queue: deque[tuple[float, bytes]] = deque()
        self._queued_bytes = 0

    def put(self, frame: bytes, now: float) -> None:
        """A frame has come in; some of its packets get lost."""
        frames = [frame]
        if self.loss:
            lost = [self._generator.random() < self.loss for _ in range(packet_count(frame))]
            frames = without_lost(frame, lost)
        for kept in frames:
            if self._queued_bytes + len(kept) <= _MAX_QUEUED_BYTES:
                # Never before the one in front of it, though the delay may have become shorter.
                due = max(now + self.delay_seconds, self._queue[-1][0] if self._queue else 0.0)
                self._queue.append((due, kept))
                self._queued_bytes += len(kept)

    def pass_on(self, now: float) -> None:
        """Write what has waited long enough."""
        while self._queue and self._queue[0][0] <= now:
            _, frame = self._queue.popleft()
            self._queued_bytes -= len(frame)
            try:
                self._write(frame)
            except OSError as error:
                if error.errno not in _LOST_AT_A_CUT:
                    raise

    @property
    def next_due(self) -> float | None:
        """When `pass_on` has something to do."""
        return self._queue[0][0] if self._queue else None


def run() -> None:
    """Carry packets until standard input ends."""
    told = json.loads(sys.stdin.readline())
    poll = select.epoll()
    poll.register(_STDIN, select.EPOLLIN)
    directions: dict[int, Direction] = {}  # by the descriptor that they read from
    lines: list[tuple[Direction, Direction]] = []
    for number, line in enumerate(told["lines"]):
        inner, outer = (_open_tap(name) for name in tap_names(number))
        up = _direction(outer, f"{told['seed']}/{number}/up")
        down = _direction(inner, f"{told['seed']}/{number}/down")
        directions |= {inner: up, outer: down}
        lines.append((up, down))
        _set(lines[number], line)
        for descriptor in (inner, outer):
            poll.register(descriptor, select.EPOLLIN)
    print("ready", flush=True)
    while True:
        for descriptor, _ in poll.poll(_seconds_to_wait(directions)):
            if descriptor == _STDIN:
                text = sys.stdin.readline()
                if not text:
                    return
                change = json.loads(text)
                _set(lines[change["line"]], change)
                print("done", flush=True)
            else:
                _take(descriptor, directions[descriptor])
        now = time.monotonic()
        for direction in directions.values():
            direction.pass_on(now)


def _take(descriptor: int, direction: Direction) -> None:
    now = time.monotonic()
    for _ in range(_READS_PER_TURN):
        try:
            frame = os.read(descriptor, _MAX_FRAME_BYTES)
        except BlockingIOError:
            return
        direction.put(frame, now)


def _set(line: tuple[Direction, Direction], told: dict[str, Any]) -> None:
    for direction in line:
        direction.delay_seconds = told["delay_ms"] / 1_000
        direction.loss = told["loss"]


def _seconds_to_wait(directions: dict[int, Direction]) -> float | None:
    due = [direction.next_due for direction in directions.values() if direction.next_due is not None]
    return max(0.0, min(due) - time.monotonic()) if due else None


def _direction(sink: int, seed: str) -> Direction:
    # Seeded on purpose: a run can be repeated. Nothing here is a secret.
    return Direction(random.Random(seed), lambda frame: os.write(sink, frame))  # noqa: S311


def _open_tap(name: str) -> int:
    descriptor = os.open(_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _TAP_WITH_HEADERS))
    fcntl.ioctl(descriptor, _TUNSETOFFLOAD, _OFFLOADS)
    return descriptor


if __name__ == "__main__":
    run()
