# SPDX-License-Identifier: Apache-2.0
"""Which addresses to listen on, from what the configuration names and what the host has now. Pure.

A name stands for every network on that interface, by one address each: the one that lasts longest. A numeric address
stands for itself. Nothing that is not configured is ever chosen.

Left out, when an interface is named:
- what has no link: the cable is out, the radio cell was left; its addresses may linger, and nothing answers there;
- link-local addresses, of either version. Those of IPv6 need a scope to be dialled, which an AAAA record has no room
  for, and httpx takes no scoped address (RFC 6874) in a URL. 169.254/16 is what a host has until it gets a better one;
- tentative addresses, which cannot be bound yet; deprecated ones, while their interface has another of that version;
- temporary ones (RFC 8981), where their network has a stable one: they change daily, and announcements name nobody.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from p2pd.ports_network import HostAddress, HostNetwork, Whereabouts
from signing.errors import BadInput

MAX_HOSTS = 16  # each has sockets, and a thread for mDNS; a host with more addresses says which by naming them


def check_interfaces(configured: Sequence[str], network: HostNetwork, *, where: str) -> None:
    """Raises BadInput, with the remedy, for whatever can never be an address to listen on, or is not there at all.

    An interface without an address, and an address that is not there, are no errors: they may come.
    """
    for entry in configured:
        address = _address(entry)
        if address is None:
            if entry not in network.interfaces:
                there = f"there are: {', '.join(sorted(network.interfaces))}"
                raise BadInput(where, f"no interface {entry!r} here", there)
        elif address.is_unspecified or address.is_multicast:
            raise BadInput(where, f"{entry} does not belong to one interface", "name interfaces or their own addresses")
        elif address.version == 6 and address.is_link_local:
            raise BadInput(where, f"{entry} is link-local, which peers cannot dial without a scope", "name another")


def find_whereabouts(configured: Sequence[str], network: HostNetwork) -> Whereabouts:
    """What to listen on now, in the order of the configuration; empty while nothing configured has an address."""
    hosts: dict[str, None] = {}
    for entry in configured:
        address = _address(entry)
        if address is not None:
            hosts |= dict.fromkeys([str(address)] if _is_here(address, network) else [])
        elif entry in network.linked:
            hosts |= dict.fromkeys(_of_interface([each for each in network.addresses if each.interface == entry]))
    return Whereabouts(hosts=tuple(hosts)[:MAX_HOSTS], present=frozenset(filter(_lasts, _all(network))))


def _of_interface(addresses: Sequence[HostAddress]) -> list[str]:
    """One address for each network of an interface, in the order of the kernel."""
    usable = [each for each in addresses if not each.is_tentative and not ip_address(each.host).is_link_local]
    preferred_versions = {_version(each) for each in usable if not each.is_deprecated}
    best: dict[IPv4Network | IPv6Network, HostAddress] = {}
    for each in usable:
        if each.is_deprecated and _version(each) in preferred_versions:
            continue
        network = ip_network((each.host, each.prefix), strict=False)
        if network not in best or (each.is_temporary < best[network].is_temporary):
            best[network] = each
    return [str(ip_address(each.host)) for each in best.values()]


def _is_here(address: IPv4Address | IPv6Address, network: HostNetwork) -> bool:
    for each in network.addresses:
        if each.interface not in network.linked or each.is_tentative:
            continue
        # All of 127.0.0.0/8 can be bound, though the loopback device lists only 127.0.0.1.
        is_ours = address.is_loopback and address in ip_network((each.host, each.prefix), strict=False)
        if is_ours or address == ip_address(each.host):
            return True
    return False


def _all(network: HostNetwork) -> list[str]:
    return [str(ip_address(each.host)) for each in network.addresses if each.interface in network.linked]


def _lasts(host: str) -> bool:
    """Link-local addresses come and go with every container of the host, and reach no server."""
    return not ip_address(host).is_link_local


def _version(address: HostAddress) -> int:
    return ip_address(address.host).version


def _address(entry: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(entry)
    except ValueError:
        return None
