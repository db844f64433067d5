# SPDX-License-Identifier: Apache-2.0
"""The scenes that contenders race in: a topology, a payload, what happens on the way, and the physical limit.

The limit counts payload bytes only, over the narrowest link that all of them must cross once: TCP/IP headers alone
cost 4.7 % of it on Ethernet.
"""

from dataclasses import dataclass, replace
from functools import cached_property

from bench.lab.topology import EXAMPLES, Topology, load_topology
from signing.errors import BadInput

MB = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What a race is about. `kills_busiest`: kill -9 whoever brings most into its site, at half of the limit.

    `hosts`: how many each site has, where that is not what the topology says.
    """

    name: str
    what: str
    topology_name: str  # of a file in `bench/lab/topologies`
    payload_bytes: int
    kills_busiest: bool = False
    hosts: int | None = None

    @cached_property
    def topology(self) -> Topology:
        """Hosts and links."""
        topology = load_topology(EXAMPLES / f"{self.topology_name}.toml")
        if self.hosts is None:
            return topology
        return replace(topology, sites=tuple(replace(site, hosts=self.hosts) for site in topology.sites))

    @property
    def endpoints(self) -> int:
        """Hosts that want the payload."""
        return sum(site.hosts for site in self.topology.sites)

    @property
    def is_flat(self) -> bool:
        """Whether origin and endpoints are on one LAN."""
        return all(site.wan is None for site in self.topology.sites)

    def limit_seconds(self, payload_bytes: int) -> float:
        """The least time in which `payload_bytes` can reach every endpoint. Raises BadInput if no link has a limit."""
        return payload_bytes * 8 / narrowest_link(self.topology, where=self.name)


def narrowest_link(topology: Topology, *, where: str) -> int:
    """The rate of the narrowest link that a payload must cross to be everywhere, in bit/s. Raises BadInput."""
    rates = [topology.origin.up]
    for site in topology.sites:
        rates += [site.lan.down, site.wan.down if site.wan is not None else None]
    limited = [rate for rate in rates if rate is not None]
    if not limited:
        raise BadInput(where, "no link has a limit, so there is no physical one", "give a link a rate")
    return min(limited)


_ALL = (
    Scene(
        name="flat-10",
        what="one LAN, 10 endpoints and the origin at 100 Mbit/s each",
        topology_name="flat-10",
        payload_bytes=128 * MB,
    ),
    Scene(
        name="flat-40",
        what="one LAN, 40 endpoints and the origin at 10 Mbit/s each",
        topology_name="flat-40",
        payload_bytes=32 * MB,
    ),
    Scene(
        name="sites-3x5",
        what="3 sites × 5 behind WANs of 50 Mbit/s, LANs of 200 Mbit/s",
        topology_name="sites-3x5",
        payload_bytes=64 * MB,
    ),
    Scene(
        name="sites-3x5-lossy",
        what="the same with 40 ms round trip and 0.5 % loss on the WANs",
        topology_name="sites-3x5-lossy",
        payload_bytes=64 * MB,
    ),
    Scene(
        name="sites-3x5-killed",
        what="sites-3x5, where the endpoint that has brought most over a WAN is killed at half-time",
        topology_name="sites-3x5",
        payload_bytes=64 * MB,
        kills_busiest=True,
    ),
)
SCENES = {scene.name: scene for scene in _ALL}


def growing(hosts: int) -> Scene:
    """One LAN of so many endpoints, slow enough for the machine that plays all of them."""
    return Scene(
        name=f"growing-{hosts}",
        what=f"one LAN, {hosts} endpoints and the origin at 10 Mbit/s each",
        topology_name="flat-40",
        payload_bytes=16 * MB,
        hosts=hosts,
    )


def scene_named(name: str) -> Scene:
    """The scene of that name. Raises BadInput that lists the others."""
    if name not in SCENES:
        raise BadInput("scene", f"there is none named {name!r}", f"there are: {', '.join(SCENES)}")
    return SCENES[name]
