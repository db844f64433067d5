# SPDX-License-Identifier: Apache-2.0
"""Where everything of a topology goes: names, namespaces, addresses, cables and routes. Pure: nothing is built here.

The backbone is one bridge in the namespace `core`, 10.77.0.0/16: the origin .0.1, the web server .0.2, the routers
.1.n, the hosts of a site without WAN .2.n. Behind the router of site n is 10.78.n.0/24: its hosts from .1, itself .254,
and the site's bridge is in the router's own namespace. IPv6 is the same with fd77::/64 and fd78:0:0:n::/64.

Sites reach each other and the origin reaches them through routes; but nobody has a route into a site behind NAT.
Multicast is not routed, so it stays inside a site.
"""

from dataclasses import dataclass, field

from bench.lab.topology import LinkSpec, SiteSpec, Topology

CORE = "core"
BRIDGE = "br0"
WAN = "wan"
_ROUTER = 254


@dataclass(frozen=True, kw_only=True)
class End:
    """One end of a cable: an interface in a namespace."""

    namespace: str
    interface: str


@dataclass(frozen=True, kw_only=True)
class LinkPlan:
    """A cable from `inner` (a host, or a site's router) to `outer` (a port of the bridge that it is plugged in)."""

    name: str
    spec: LinkSpec
    inner: End
    outer: End

    @property
    def is_delayed(self) -> bool:
        """Whether a delay line must be in it."""
        return self.spec.delay_ms > 0 or self.spec.loss > 0


@dataclass(frozen=True, kw_only=True)
class HostPlan:
    """A namespace with one interface, `link.inner`. `routes` are pairs of a prefix (or `default`) and a gateway."""

    name: str
    namespace: str
    address: str
    prefix: int
    address6: str | None
    link: LinkPlan
    routes: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class SitePlan:
    """A site; `router` has the address of its WAN side, and `lan_address` (and 6) on its bridge."""

    spec: SiteSpec
    hosts: tuple[HostPlan, ...]
    person: HostPlan | None
    router: HostPlan | None
    lan_address: str | None
    lan_address6: str | None


@dataclass(frozen=True, kw_only=True)
class Layout:
    """All of a lab; `owner` begins the names of its namespaces, `core` is that of the backbone."""

    owner: str
    core: str
    origin: HostPlan
    web: HostPlan | None
    sites: tuple[SitePlan, ...]
    hosts: tuple[HostPlan, ...] = field(init=False)  # all but the routers
    routers: tuple[HostPlan, ...] = field(init=False)

    def __post_init__(self) -> None:
        ends = [self.origin, *([self.web] if self.web else [])]
        for site in self.sites:
            ends += [*site.hosts, *([site.person] if site.person else [])]
        object.__setattr__(self, "hosts", tuple(ends))
        object.__setattr__(self, "routers", tuple(site.router for site in self.sites if site.router))

    @property
    def namespaces(self) -> list[str]:
        """The names of all namespaces."""
        return [self.core, *(host.namespace for host in (*self.routers, *self.hosts))]

    @property
    def links(self) -> list[LinkPlan]:
        """All cables, those of the WANs first."""
        return [host.link for host in (*self.routers, *self.hosts)]


def lay_out(topology: Topology, owner: str) -> Layout:
    """Give every part of `topology` its place; `owner` begins the names of its namespaces."""
    return _Plan(topology, owner).layout()


class _Plan:
    def __init__(self, topology: Topology, owner: str) -> None:
        self._topology = topology
        self._owner = owner
        self._core = f"{owner}_{CORE}"
        self._has_ipv6 = any(site.ipv6 for site in topology.sites)

    def layout(self) -> Layout:
        origin = self._on_backbone("origin", "0.1", "1", self._topology.origin)
        web = self._on_backbone("web", "0.2", "2", self._topology.origin) if self._topology.people else None
        sites = tuple(self._site(number, site) for number, site in enumerate(self._topology.sites, start=1))
        return Layout(owner=self._owner, core=self._core, origin=origin, web=web, sites=sites)

    def _site(self, number: int, site: SiteSpec) -> SitePlan:
        names = [f"{site.name}-{index}" for index in range(1, site.hosts + 1)]
        if self._topology.people:
            names.append(f"{site.name}-person")
        if site.wan is None:
            ends = [
                self._on_backbone(name, f"2.{index}", f"2:{index:x}", site.lan)
                for index, name in enumerate(names, start=1)
            ]
            router, lan_address, lan_address6 = None, None, None
        else:
            router = self._router(number, site, site.wan)
            ends = [self._in_site(name, number, index, site) for index, name in enumerate(names, start=1)]
            lan_address = f"10.78.{number}.{_ROUTER}"
            lan_address6 = _site_address6(number, _ROUTER) if site.ipv6 else None
        return SitePlan(
            spec=site,
            hosts=tuple(ends[: site.hosts]),
            person=ends[site.hosts] if self._topology.people else None,
            router=router,
            lan_address=lan_address,
            lan_address6=lan_address6,
        )

    def _on_backbone(self, name: str, v4: str, v6: str, spec: LinkSpec) -> HostPlan:
        return HostPlan(
            name=name,
            namespace=self._namespace(name),
            address=f"10.77.{v4}",
            prefix=16,
            address6=f"fd77::{v6}" if self._has_ipv6 else None,
            link=self._cable(name, spec, self._namespace(name), "eth0", self._core),
            routes=self._routes_into_sites(),
        )

    def _router(self, number: int, site: SiteSpec, wan: LinkSpec) -> HostPlan:
        namespace = self._namespace(f"{site.name}-router")
        return HostPlan(
            name=f"{site.name}-router",
            namespace=namespace,
            address=f"10.77.1.{number}",
            prefix=16,
            address6=f"fd77::1:{number:x}" if site.ipv6 else None,
            link=self._cable(f"{site.name}-wan", wan, namespace, WAN, self._core),
            routes=self._routes_into_sites(but=number, ipv6=site.ipv6),
        )

    def _in_site(self, name: str, number: int, index: int, site: SiteSpec) -> HostPlan:
        gateways = [f"10.78.{number}.{_ROUTER}", *([_site_address6(number, _ROUTER)] if site.ipv6 else [])]
        return HostPlan(
            name=name,
            namespace=self._namespace(name),
            address=f"10.78.{number}.{index}",
            prefix=24,
            address6=_site_address6(number, index) if site.ipv6 else None,
            link=self._cable(name, site.lan, self._namespace(name), "eth0", self._namespace(f"{site.name}-router")),
            routes=tuple(("default", gateway) for gateway in gateways),
        )

    def _routes_into_sites(self, but: int | None = None, *, ipv6: bool = True) -> tuple[tuple[str, str], ...]:
        routes = []
        for number, site in enumerate(self._topology.sites, start=1):
            if site.wan is None or number == but:
                continue
            if not site.nat:
                routes.append((f"10.78.{number}.0/24", f"10.77.1.{number}"))
            if site.ipv6 and ipv6:
                routes.append((f"fd78:0:0:{number:x}::/64", f"fd77::1:{number:x}"))
        return tuple(routes)

    def _cable(self, name: str, spec: LinkSpec, inner: str, interface: str, outer: str) -> LinkPlan:
        return LinkPlan(
            name=name,
            spec=spec,
            inner=End(namespace=inner, interface=interface),
            outer=End(namespace=outer, interface=name),
        )

    def _namespace(self, name: str) -> str:
        return f"{self._owner}_{name.replace('-', '_')}"


def _site_address6(number: int, index: int) -> str:
    return f"fd78:0:0:{number:x}::{index:x}"
