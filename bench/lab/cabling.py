# SPDX-License-Identifier: Apache-2.0
"""What `ip`, `tc`, `sysctl` and `nft` are told so that a layout stands: one batch a namespace.

The namespaces exist already, and so do the TAP devices of the delay lines, in the core.
"""

from collections.abc import Mapping

from bench.lab import shaping
from bench.lab.commands import batch, find, run
from bench.lab.delay import DelayLine
from bench.lab.layout import BRIDGE, WAN, HostPlan, Layout

_NO_IPV6 = "addrgenmode none"  # not even the address of the link: what has no IPv6 sends none
_TAP_PACKETS = 10_000  # waiting for the delay line, whose process may not run for a while: it loses what it is told to
_HIDE = f"""
table ip lab {{
    chain hide {{
        type nat hook postrouting priority srcnat; policy accept;
        oifname "{WAN}" masquerade
    }}
}}
"""


def build_bridges(layout: Layout) -> None:
    """Make the backbone, and at each site with a WAN its router with the site's bridge in it. Raises LabError."""
    lines = [
        f"link add {BRIDGE} type bridge mcast_snooping 0",
        f"link set {BRIDGE} {_NO_IPV6}",
        f"link set {BRIDGE} up",
        "link set lo up",
    ]
    batch("ip", lines, namespace=layout.core)
    for site in layout.sites:
        if site.router is None:
            continue
        lan = [f"address add {site.lan_address}/24 dev {BRIDGE}"]
        settings = ["net.ipv4.ip_forward=1"]
        if site.lan_address6 is not None:
            lan.append(f"address add {site.lan_address6}/64 dev {BRIDGE} nodad")
            settings.append("net.ipv6.conf.all.forwarding=1")
        batch("ip", [*lines, *lan], namespace=site.router.namespace)
        _in_namespace(site.router.namespace, "sysctl", "-q", "-w", *settings)
        if site.spec.nat:
            _hide_addresses(site.router)


def build_cables(layout: Layout, delay_line_of: Mapping[str, DelayLine]) -> None:
    """Plug everything in, give it its addresses and routes, and shape it. Raises LabError."""
    for namespace, lines in _plugging(layout, delay_line_of).items():
        batch("ip", lines, namespace=namespace)
    largest_frame = shaping.largest_frame(plan.spec for plan in layout.links)
    for host in (*layout.routers, *layout.hosts):
        batch("ip", _addressing(host, largest_frame), namespace=host.namespace)
    for namespace, lines in _shaping(layout).items():
        batch("tc", lines, namespace=namespace)


def _plugging(layout: Layout, delay_line_of: Mapping[str, DelayLine]) -> dict[str, list[str]]:
    """The lines for each namespace that has a bridge, the core's first: from there TAP devices move to the others."""
    lines: dict[str, list[str]] = {layout.core: []}
    for plan in layout.links:
        inner, outer = plan.inner, plan.outer
        at_bridge = lines.setdefault(outer.namespace, [])
        if (line := delay_line_of.get(plan.name)) is None:
            at_bridge.append(
                f"link add {outer.interface} type veth peer name {inner.interface} netns {inner.namespace}"
            )
        else:
            in_core = lines[layout.core]
            in_core.append(f"link set {line.inner_tap} name {inner.interface} netns {inner.namespace}")
            elsewhere = "" if outer.namespace == layout.core else f" netns {outer.namespace}"
            in_core.append(f"link set {line.outer_tap} name {outer.interface}{elsewhere}")
            at_bridge.append(f"link set {outer.interface} txqueuelen {_TAP_PACKETS}")
        at_bridge.append(f"link set {outer.interface} {_NO_IPV6}")
        at_bridge.append(f"link set {outer.interface} master {BRIDGE} up")
    return lines


def _addressing(host: HostPlan, largest_frame: int) -> list[str]:
    interface = host.link.inner.interface
    lines = ["link set lo up", f"address add {host.address}/{host.prefix} dev {interface}"]
    if host.address6 is None:
        lines.append(f"link set {interface} {_NO_IPV6}")
    else:
        lines.append(f"address add {host.address6}/64 dev {interface} nodad")
    lines.append(f"link set {interface} gso_max_size {largest_frame} txqueuelen {_TAP_PACKETS} up")
    lines += [f"route add {prefix} via {gateway}" for prefix, gateway in host.routes]
    return lines


def _shaping(layout: Layout) -> dict[str, list[str]]:
    lines: dict[str, list[str]] = {}
    for plan in layout.links:
        for end, rate in ((plan.inner, plan.spec.up), (plan.outer, plan.spec.down)):
            lines.setdefault(end.namespace, []).append(shaping.qdisc(end.interface, rate, plan.spec.queue_ms))
    return lines


def _hide_addresses(router: HostPlan) -> None:
    """NAT: who is behind this router is seen outside as the router, and cannot be called from there."""
    # What only crosses the site's bridge is none of the rules' business. (-e: not every kernel would ask them.)
    _in_namespace(router.namespace, "sysctl", "-q", "-e", "-w", "net.bridge.bridge-nf-call-iptables=0")
    _in_namespace(router.namespace, "nft", "-f", "-", given=_HIDE)


def _in_namespace(namespace: str, command: str, *arguments: str, given: str = "") -> None:
    run("ip", "netns", "exec", namespace, find(command), *arguments, given=given)
