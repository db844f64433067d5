# SPDX-License-Identifier: Apache-2.0
"""What the kernel knows and does about libtorrent's connections: round trips, and hosts that vanish.

libtorrent tells neither (its `rtt` stays 0 for TLS), and its own timeout wakes both ends up all the time that they
idle. So its sockets are looked up among this process's open files, where they can be asked and set like any other. A
descriptor may be closed and be another socket meanwhile: what is done here harms no TCP socket, whosever it is. On
systems without /proc nothing is found, and `peer_timeout` of libtorrent has to do.
"""

import os
import socket
import stat
import sys
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

KEEPALIVE_AFTER_SECONDS = 3  # of silence …
KEEPALIVE_EVERY_SECONDS = 1
KEEPALIVE_PROBES = 3  # … and a host that does not answer is gone, after 6 s
UNANSWERED_MILLISECONDS = 6_000  # the same for data that is on its way
_OPEN_FILES = "/proc/self/fd"
# struct tcp_info of linux/tcp.h, which only ever grows at its end.
_TCP_INFO_BYTES = 152
_RTT_OFFSET = 68
_MIN_RTT_OFFSET = 148
_UNKNOWN_RTT = 2**32 - 1


class TcpLink(NamedTuple):
    """A connection by its two ends, numeric host and port."""

    local: tuple[str, int]
    remote: tuple[str, int]


def tend(links: Collection[TcpLink]) -> dict[TcpLink, float]:
    """Have those connections end within seconds when the other host vanishes; how long a round trip takes, in seconds.

    Connections that are not found are left out. Synchronous: takes about 10 µs for each open file.
    """
    found: dict[TcpLink, float] = {}
    if not links:
        return found
    with suppress(FileNotFoundError):
        for file in Path(_OPEN_FILES).iterdir():
            with suppress(OSError):  # closed meanwhile, or not a TCP connection
                _tend(int(file.name), links, found)
    return found


def _tend(descriptor: int, links: Collection[TcpLink], found: dict[TcpLink, float]) -> None:
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        return
    connection = socket.socket(fileno=descriptor)
    try:
        if connection.family not in (socket.AF_INET, socket.AF_INET6) or connection.type != socket.SOCK_STREAM:
            return
        link = TcpLink(connection.getsockname()[:2], connection.getpeername()[:2])
        if link in links:
            _notice_vanished_hosts(connection)
            round_trip = _round_trip(connection)
            if round_trip is not None:
                found[link] = round_trip
    finally:
        connection.detach()  # it stays libtorrent's


def _notice_vanished_hosts(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_AFTER_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_EVERY_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNANSWERED_MILLISECONDS)


def _round_trip(connection: socket.socket) -> float | None:
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    for offset in (_MIN_RTT_OFFSET, _RTT_OFFSET):  # the shortest lately; older kernels tell the smoothed one only
        microseconds = int.from_bytes(info[offset : offset + 4], sys.byteorder)
        if len(info) >= offset + 4 and 0 < microseconds < _UNKNOWN_RTT:
            return microseconds / 1_000_000
    return None
