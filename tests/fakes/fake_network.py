# SPDX-License-Identifier: Apache-2.0
"""`p2pd.ports_network.NetworkWatch` of a host whose cables a test plugs and pulls."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from p2pd.host.latest import Latest
from p2pd.ports_network import HostAddress, HostNetwork


class FakeNetwork:
    """Interfaces by name, with their addresses; all have a link."""

    def __init__(self, interfaces: Mapping[str, Sequence[str]]) -> None:
        self._now = Latest(_network(interfaces))
        self._watch = self._now.watch()

    def become(self, interfaces: Mapping[str, Sequence[str]]) -> None:
        """Other interfaces, other addresses."""
        self._now.set(_network(interfaces))

    def pull(self, interface: str) -> None:
        """The cable is out; the addresses linger."""
        self._now.set(replace(self._now.value, linked=self._now.value.linked - {interface}))

    def plug(self, interface: str) -> None:
        """The cable is in."""
        self._now.set(replace(self._now.value, linked=self._now.value.linked | {interface}))

    def look(self) -> HostNetwork:
        return self._now.value

    async def changed(self) -> None:
        await self._watch.changed()


def _network(interfaces: Mapping[str, Sequence[str]]) -> HostNetwork:
    return HostNetwork(
        interfaces=frozenset(interfaces),
        linked=frozenset(interfaces),
        addresses=tuple(
            HostAddress(interface=name, host=host, prefix=64 if ":" in host else 24)
            for name, hosts in interfaces.items()
            for host in hosts
        ),
    )
