# SPDX-License-Identifier: Apache-2.0
"""Layouts: for every topology, everybody has a place of their own, and a way to whom they may reach."""

import ipaddress
from ipaddress import IPv4Address, IPv4Network

from hypothesis import given
from hypothesis import strategies as st

from bench.lab.layout import HostPlan, Layout, lay_out
from bench.lab.topology import LinkSpec, SiteSpec, Topology

OWNER = "p2pd-lab-1-0"


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    sites = []
    for number in range(draw(st.integers(1, 5))):
        has_wan = number > 0 or draw(st.booleans())
        wan = LinkSpec(delay_ms=draw(st.sampled_from([0.0, 5.0]))) if has_wan else None
        sites.append(
            SiteSpec(
                name=f"site{number}",
                hosts=draw(st.integers(1, 40)),
                wan=wan,
                nat=has_wan and draw(st.booleans()),
                ipv6=draw(st.booleans()),
            )
        )
    return Topology(sites=tuple(sites), people=draw(st.booleans()))


@given(topologies())
def test_nobody_shares_a_place(topology: Topology) -> None:
    layout = lay_out(topology, OWNER)
    everybody = [*layout.hosts, *layout.routers]
    addresses = [host.address for host in everybody] + [site.lan_address for site in layout.sites if site.lan_address]
    addresses += [host.address6 for host in everybody if host.address6]
    assert len(set(addresses)) == len(addresses)
    assert len(set(layout.namespaces)) == len(layout.namespaces)
    assert all(name.startswith(f"{OWNER}_") for name in layout.namespaces)
    ends = [end for link in layout.links for end in (link.inner, link.outer)]
    assert len(set(ends)) == len(ends)
    assert all(len(end.interface) <= 15 for end in ends), "the kernel takes no longer names"
    assert {end.namespace for end in ends} <= set(layout.namespaces)
    assert len({link.name for link in layout.links}) == len(layout.links)


@given(topologies())
def test_everybody_has_a_way_to_the_origin_and_into_sites_without_nat(topology: Topology) -> None:
    layout = lay_out(topology, OWNER)
    for site in layout.sites:
        for host in site.hosts:
            assert gateway_is_a_neighbour(host)
            assert next_hop(host, layout.origin.address) is not None
            may_be_called = not site.spec.nat
            assert (next_hop(layout.origin, host.address) is not None) == may_be_called
            for other in (other for other in layout.sites if other is not site):
                assert (next_hop(outermost(layout, other), host.address) is not None) == may_be_called


def outermost(layout: Layout, site: object) -> HostPlan:
    """Who decides where packets of this site go: its router, or its first host on the backbone."""
    plan = next(plan for plan in layout.sites if plan is site)
    return plan.router or plan.hosts[0]


def next_hop(host: HostPlan, destination: str) -> str | None:
    """Where `host` sends packets for `destination`; itself if it is a neighbour, None if nowhere."""
    if IPv4Address(destination) in IPv4Network(f"{host.address}/{host.prefix}", strict=False):
        return destination
    for prefix, gateway in host.routes:
        if ":" not in gateway and (prefix == "default" or IPv4Address(destination) in IPv4Network(prefix)):
            return gateway
    return None


def gateway_is_a_neighbour(host: HostPlan) -> bool:
    here = IPv4Network(f"{host.address}/{host.prefix}", strict=False)
    gateways = [ipaddress.ip_address(gateway) for _, gateway in host.routes]
    return all(gateway in here for gateway in gateways if gateway.version == 4)
