# SPDX-License-Identifier: Apache-2.0
"""The host's addresses, and a hint whenever they may have changed: `p2pd.ports_network.NetworkWatch`.

On Linux the kernel tells by rtnetlink(7). Its messages are hints only: many repeat what was so (each router
advertisement does), some are lost when too many come at once, and what counts is what is there when it is over. So
nothing in them is read: after a moment of rest all addresses are looked at anew. A host where nothing happens does
nothing.

Elsewhere there is no such descriptor in Python, and addresses are looked at every FALLBACK_SECONDS.
"""

import errno
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path

import psutil
import trio

from p2pd.ports_network import HostAddress, HostNetwork

REST_SECONDS = 0.3  # without news: a DHCP client that renews removes, adds and sets in several steps
LONGEST_SECONDS = 2.0  # after the first news; somebody may never come to rest
FALLBACK_SECONDS = 30.0

_LINK, _IPV4_ADDRESS, _IPV6_ADDRESS = 0x1, 0x10, 0x100  # multicast groups of rtnetlink(7)
_TEMPORARY, _OPTIMISTIC, _DAD_FAILED, _DEPRECATED, _TENTATIVE = 0x01, 0x04, 0x08, 0x20, 0x40  # <linux/if_addr.h>
_IPV6_LIST = Path("/proc/net/if_inet6")
_MESSAGE_BYTES = 65_536


class NetworkChanges:
    """Made by `open_network_changes`."""

    def __init__(self, hints: socket.socket | None) -> None:
        self._hints = hints

    def look(self) -> HostNetwork:
        """See `p2pd.ports_network.NetworkWatch`."""
        stats = psutil.net_if_stats()
        flags = _read_ipv6_flags()
        addresses = tuple(_addresses(psutil.net_if_addrs(), flags))
        linked = frozenset(name for name, state in stats.items() if state.isup)
        return HostNetwork(interfaces=frozenset(stats), linked=linked, addresses=addresses)

    async def changed(self) -> None:
        """See `p2pd.ports_network.NetworkWatch`."""
        if self._hints is None:
            await trio.sleep(FALLBACK_SECONDS)
            return
        await self._hint(self._hints)
        with trio.move_on_after(LONGEST_SECONDS):
            is_moving = True
            while is_moving:
                with trio.move_on_after(REST_SECONDS) as rest:
                    await self._hint(self._hints)
                is_moving = not rest.cancelled_caught

    async def _hint(self, hints: socket.socket) -> None:
        await trio.lowlevel.wait_readable(hints)
        with suppress(BlockingIOError):
            while True:
                try:
                    hints.recv(_MESSAGE_BYTES)
                except OSError as problem:
                    if problem.errno != errno.ENOBUFS:  # more came than the kernel keeps: a hint all the same
                        raise


@contextmanager
def open_network_changes() -> Iterator[NetworkChanges]:
    """Take hints while the block lasts, from its first moment on."""
    if sys.platform != "linux":
        yield NetworkChanges(None)
        return
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    with socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE) as hints:
        hints.bind((0, _LINK | _IPV4_ADDRESS | _IPV6_ADDRESS))
        yield NetworkChanges(hints)


def _addresses(found: Mapping[str, list[psutil._ntuples.snicaddr]], flags: Mapping[str, int]) -> Iterator[HostAddress]:
    for interface, entries in found.items():
        for entry in entries:
            if entry.family not in (socket.AF_INET, socket.AF_INET6) or not entry.netmask:
                continue
            host = entry.address.partition("%")[0]
            bits = flags.get(str(ip_address(host)), 0)
            yield HostAddress(
                interface=interface,
                host=host,
                prefix=int(ip_address(entry.netmask)).bit_count(),
                is_temporary=bool(bits & _TEMPORARY),
                is_deprecated=bool(bits & _DEPRECATED),
                is_tentative=bool(bits & _DAD_FAILED) or bits & (_TENTATIVE | _OPTIMISTIC) == _TENTATIVE,
            )


def _read_ipv6_flags() -> dict[str, int]:
    """Flags by IPv6 address: psutil does not know them. Empty where Linux has no IPv6, and elsewhere."""
    try:
        lines = _IPV6_LIST.read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    flags: dict[str, int] = {}
    for line in lines:
        packed, _index, _prefix, _scope, bits, _interface = line.split()
        flags[str(ip_address(bytes.fromhex(packed)))] = int(bits, 16)
    return flags
