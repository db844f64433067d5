# SPDX-License-Identifier: Apache-2.0
"""A topology, built: hosts as network namespaces on bridges and routers, with links that can be changed.

    with build(load_topology(path)) as network:
        subprocess.Popen(network.sites[0].hosts[0].argv(["p2pd", "run"]))

No host has a way out, and nothing of the machine's own network is touched. All goes when the block ends, however it
ends, Ctrl-C and SIGTERM too, with whatever still runs in it; that of a run that was killed goes with the next lab.
"""

import functools
import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from bench.lab.cabling import build_bridges, build_cables
from bench.lab.commands import LabError, batch, exec_in
from bench.lab.delay import delay_lines
from bench.lab.layout import HostPlan, Layout, lay_out
from bench.lab.leftovers import remove, remove_leftovers, unused_owner
from bench.lab.links import Link, LinkBytes, bytes_of
from bench.lab.neighbour_table import room_for_neighbours
from bench.lab.stopping import stopped_by_signals, undisturbed_removal
from bench.lab.topology import LinkSpec, SiteSpec, Topology

__all__ = ["Host", "LabError", "Link", "LinkBytes", "Network", "Site", "build", "exec_in", "why_not_available"]


@dataclass(frozen=True, kw_only=True)
class Host:
    """One namespace that plays a host; `address6` is None where the topology gives no IPv6."""

    name: str
    namespace: str
    address: str
    address6: str | None
    link: Link

    def argv(self, command: Sequence[str]) -> list[str]:
        """What to start so that `command` runs on this host."""
        return exec_in(self.namespace, command)


@dataclass(frozen=True, kw_only=True)
class Site:
    """Hosts on one bridge; `bridge` is the namespace of that bridge, which is the router's if the site has a WAN."""

    name: str
    hosts: tuple[Host, ...]
    person: Host | None
    wan: Link | None
    bridge: str


@dataclass(frozen=True, kw_only=True)
class Network:
    """All of a lab. `bridge` is the namespace of the backbone, where packets between sites and origin can be seen."""

    origin: Host
    web: Host | None
    sites: tuple[Site, ...]
    links: Mapping[str, Link]
    bridge: str

    @property
    def hosts(self) -> tuple[Host, ...]:
        """Every host: the origin, the web server, and the sites' hosts and people."""
        ends = [self.origin, *([self.web] if self.web else [])]
        for site in self.sites:
            ends += [*site.hosts, *([site.person] if site.person else [])]
        return tuple(ends)

    def link_bytes(self, names: Collection[str] | None = None) -> dict[str, LinkBytes]:
        """What was sent into these links (all by default) since the lab was built; takes about 5 ms a link."""
        return bytes_of(self.links.values() if names is None else [self.links[name] for name in names])


@contextmanager
def build(topology: Topology, *, seed: int = 1) -> Iterator[Network]:
    """Build `topology`; blocks for about 10 ms a host. `seed` decides which packets get lost. Raises LabError."""
    with stopped_by_signals(), undisturbed_removal() as stack:
        remove_leftovers()
        layout = lay_out(topology, unused_owner())
        stack.enter_context(room_for_neighbours(layout.owner, len(layout.namespaces)))
        stack.callback(remove, layout.namespaces)
        batch("ip", [f"netns add {namespace}" for namespace in layout.namespaces])
        build_bridges(layout)
        delayed = [plan for plan in layout.links if plan.is_delayed]
        lines = stack.enter_context(delay_lines(layout.core, [plan.spec for plan in delayed], seed))
        line_of = dict(zip((plan.name for plan in delayed), lines, strict=True))
        links = {plan.name: Link(plan, line_of.get(plan.name)) for plan in layout.links}
        build_cables(layout, line_of)
        yield _network(layout, links)


@functools.cache
def why_not_available() -> str | None:
    """What this machine lacks for a lab, in a sentence; None if one can be built."""
    if sys.platform != "linux":
        return "network namespaces exist on Linux only"
    if os.geteuid() != 0:
        return "network namespaces need root"
    everything = SiteSpec(name="site", hosts=1, lan=LinkSpec(up=1_000_000), wan=LinkSpec(delay_ms=1))
    try:
        with build(Topology(sites=(everything,))):
            return None
    except LabError as error:
        return f"a lab cannot be built here: {error}"


def _network(layout: Layout, links: Mapping[str, Link]) -> Network:
    return Network(
        origin=_host(layout.origin, links),
        web=_host(layout.web, links) if layout.web else None,
        sites=tuple(
            Site(
                name=site.spec.name,
                hosts=tuple(_host(host, links) for host in site.hosts),
                person=_host(site.person, links) if site.person else None,
                wan=links[site.router.link.name] if site.router else None,
                bridge=site.router.namespace if site.router else layout.core,
            )
            for site in layout.sites
        ),
        links=links,
        bridge=layout.core,
    )


def _host(plan: HostPlan, links: Mapping[str, Link]) -> Host:
    return Host(
        name=plan.name,
        namespace=plan.namespace,
        address=plan.address,
        address6=plan.address6,
        link=links[plan.link.name],
    )
