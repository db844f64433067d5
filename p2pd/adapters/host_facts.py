# SPDX-License-Identifier: Apache-2.0
"""The host's power, the way to the origin, and what the network costs: `p2pd.ports_network.HostLooks`.

Metered is what NetworkManager says, asked with systemd's `busctl` when both are there. A VPN is a way to the origin
through an interface without link layer (tun, WireGuard) or by PPP, as /proc and /sys tell on Linux. A tunnel that the
host does not know of, in its router, is no VPN here.
"""

import socket
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from typing import NamedTuple

import psutil
import trio

from p2pd.ports_network import HostFacts

ASK_SECONDS = 2.0  # for a name's address, and for NetworkManager: the daemon starts no earlier
_TUNNEL_TYPES = {"65534", "512"}  # ARPHRD_NONE and ARPHRD_PPP of <linux/if_arp.h>
_METERED, _UNMETERED = {"1", "3"}, {"2", "4"}  # NMMetered: yes and guessed; 0 is unknown
_ASK_NETWORK_MANAGER = (
    *("busctl", "--system", "--auto-start=no", "get-property", "org.freedesktop.NetworkManager"),
    *("/org/freedesktop/NetworkManager", "org.freedesktop.NetworkManager", "Metered"),
)
_REJECT = 0x0200  # RTF_REJECT of <linux/route.h>
_UP, _GATEWAY = 0x0001, 0x0002  # RTF_UP, RTF_GATEWAY

_Address = IPv4Address | IPv6Address


class _Route(NamedTuple):
    target: IPv4Network | IPv6Network
    metric: int
    interface: str
    is_direct: bool  # no router in between


class SystemHostFacts:
    """`root` is where /proc, /sys and /run lie."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    async def look(self, *, origin: str, hosts: Sequence[str]) -> HostFacts:
        """See `p2pd.ports_network.HostLooks`."""
        destinations = await _resolve(origin)
        routes = [*self._ipv4_routes(), *self._ipv6_routes()]
        ways = [way for way in (_way_to(address, routes) for address in destinations) if way is not None]
        return HostFacts(
            is_metered=await self._is_metered(),
            is_vpn=self._is_vpn(destinations, ways, routes),
            is_origin_near=bool(ways) and all(way.is_direct and not self._is_tunnel(way.interface) for way in ways),
            battery_percent=_battery_percent(),
            lan_link=_slowest_link(hosts),
        )

    async def _is_metered(self) -> bool | None:
        if not (self._root / "run/NetworkManager").is_dir():
            return None
        with trio.move_on_after(ASK_SECONDS):
            try:
                answer = await trio.run_process(
                    _ASK_NETWORK_MANAGER, capture_stdout=True, stderr=subprocess.DEVNULL, check=False
                )
            except OSError:
                return None
            value = answer.stdout.decode("ascii", "replace").removeprefix("u ").strip()
            return True if value in _METERED else False if value in _UNMETERED else None
        return None

    def _is_vpn(
        self, destinations: Sequence[_Address], ways: Sequence[_Route], routes: Sequence[_Route]
    ) -> bool | None:
        if not destinations:  # the name is not known now: what goes nowhere in particular goes by the default route
            ways = [route for route in routes if route.target.prefixlen == 0]
        return any(self._is_tunnel(way.interface) for way in ways) if ways else None

    def _is_tunnel(self, interface: str) -> bool:
        return _text(self._root / "sys/class/net" / interface / "type").strip() in _TUNNEL_TYPES

    def _ipv4_routes(self) -> Iterator[_Route]:
        """Lines of /proc/net/route: name, then hexadecimal numbers in the byte order of a little-endian host."""
        for line in _text(self._root / "proc/net/route").splitlines()[1:]:
            words = line.split()
            if len(words) < 8 or not int(words[3], 16) & _UP or int(words[3], 16) & _REJECT:
                continue
            target, mask = (IPv4Address(bytes.fromhex(words[index])[::-1]) for index in (1, 7))
            network = IPv4Network((int(target), int(mask).bit_count()), strict=False)
            yield _Route(network, int(words[6]), words[0], not int(words[3], 16) & _GATEWAY)

    def _ipv6_routes(self) -> Iterator[_Route]:
        for line in _text(self._root / "proc/net/ipv6_route").splitlines():
            words = line.split()
            if len(words) < 10 or not int(words[8], 16) & _UP or int(words[8], 16) & _REJECT:
                continue
            network = IPv6Network((bytes.fromhex(words[0]), int(words[1], 16)), strict=False)
            yield _Route(network, int(words[5], 16), words[9], not int(words[8], 16) & _GATEWAY)


def _way_to(address: _Address, routes: Iterable[_Route]) -> _Route | None:
    """The route with the longest prefix, of several the one with the lowest metric."""
    ways = [route for route in routes if route.target.version == address.version and address in route.target]
    return min(ways, key=lambda way: (-way.target.prefixlen, way.metric)) if ways else None


async def _resolve(host: str) -> list[_Address]:
    try:
        return [ip_address(host)]
    except ValueError:
        pass
    with trio.move_on_after(ASK_SECONDS):
        try:
            found = await trio.socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except OSError:
            return []
        return [ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    return []


def _battery_percent() -> float | None:
    try:
        battery = psutil.sensors_battery()
    except (AttributeError, NotImplementedError, OSError):  # a platform, or a driver, that does not tell
        return None
    return float(battery.percent) if battery is not None and not battery.power_plugged else None


def _slowest_link(hosts: Sequence[str]) -> float:
    """Bytes per second of the interfaces that have one of `hosts`."""
    stats = psutil.net_if_stats()
    names = [name for name, found in psutil.net_if_addrs().items() if any(entry.address in hosts for entry in found)]
    speeds = [stats[name].speed for name in names if name in stats and stats[name].speed > 0]
    return min(speeds) * 1e6 / 8 if speeds else 0.0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
