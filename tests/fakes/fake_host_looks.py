# SPDX-License-Identifier: Apache-2.0
"""`p2pd.ports_network.HostLooks`: a host whose power and routes are what a test says."""

from collections.abc import Sequence

import trio

from p2pd.ports_network import HostFacts


class FakeHostLooks:
    """Plugged in, at home, unless `facts` is set otherwise."""

    def __init__(self) -> None:
        self.facts = HostFacts(is_metered=False, is_vpn=False, battery_percent=None)

    async def look(self, *, origin: str, hosts: Sequence[str]) -> HostFacts:
        """See `HostLooks`."""
        await trio.lowlevel.checkpoint()
        return self.facts
