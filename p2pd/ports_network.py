# SPDX-License-Identifier: Apache-2.0
"""The socket in the wall towards the host's own network: which addresses it has, and when that may have changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class HostAddress:
    """One address of this host. What the kernel does not tell is taken for false."""

    interface: str
    host: str  # numeric, without a scope
    prefix: int  # bits of its network
    is_temporary: bool = False  # RFC 8981: made up for privacy, gone tomorrow
    is_deprecated: bool = False  # its preferred lifetime is over: not for new connections
    is_tentative: bool = False  # cannot be bound: duplicate address detection is not done, or has failed


@dataclass(frozen=True, kw_only=True)
class HostNetwork:
    """The interfaces of this host at one moment."""

    interfaces: frozenset[str]  # all that exist
    linked: frozenset[str]  # those that are up and have a carrier: a cable is in, a cell is joined
    addresses: tuple[HostAddress, ...]  # as the kernel lists them: primary ones first


@dataclass(frozen=True, kw_only=True)
class Whereabouts:
    """What this endpoint makes of the host's network."""

    hosts: tuple[str, ...] = ()  # what to listen on and dial from: addresses of configured interfaces, nothing else
    present: frozenset[str] = frozenset()  # every address that may be the source of a connection, on any interface


class NetworkWatch(Protocol):
    """The host's network, and news of it. One task waits at a time."""

    def look(self) -> HostNetwork:
        """What is there now; takes well below a millisecond on a usual host."""

    async def changed(self) -> None:
        """Return once something may have changed since the last return, and has come to rest."""


@dataclass(frozen=True, kw_only=True)
class HostFacts:
    """What decides whether the network may be used freely now. None: the host does not say."""

    is_metered: bool | None = None
    is_vpn: bool | None = None  # the way to the origin goes through a tunnel
    is_origin_near: bool = False  # on a LAN of this host: no WAN link, and nobody's download, lies in between
    battery_percent: float | None = None  # while it is what the host runs on
    lan_link: float = 0.0  # bytes per second of the slowest interface in use as its driver tells; 0: it does not


class HostLooks(Protocol):
    """Looks at the host's power and routes."""

    async def look(self, *, origin: str, hosts: Sequence[str]) -> HostFacts:
        """How things are now; `origin` is the host of the origin's URL, `hosts` are this endpoint's addresses."""


class AddressFollower(Protocol):
    """Whatever has to move when addresses change."""

    async def follow(self, here: Whereabouts) -> None:
        """Listen there, and nowhere else. Raises BadInput, ServiceFailure; may be asked again for the same place."""
