# SPDX-License-Identifier: Apache-2.0
"""A laptop among two LANs: one with both versions of IP, one with IPv6 alone. Everything is named by interface.

LAN 1 (10.77.0.0/16, fd77::/64): the coordinator, at an IPv6 address only; desk, server, and the laptop at first
LAN 2 (fd00::/64): the server's second interface, and the laptop in the end
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from bench.lab.network import Host, Network, build, exec_in, why_not_available
from bench.lab.processes import Processes
from bench.lab.topology import SiteSpec, Topology
from signing.policy import Ring
from signing.reasons import Reason
from tests.end_to_end.endpoint import Endpoint
from tests.end_to_end.fleet import PRODUCT, FleetUnderTest, start_all
from tests.end_to_end.template import LAB_ADDRESS_6, Template
from tests.end_to_end.waiting import eventually

SIZE = 12 << 20
BYTES_PER_SECOND = 2 << 20  # into the laptop: some seconds, to change networks in
SLICE = 2 << 20  # that many bytes more, and the transfer is on its way


@pytest.fixture
def lab() -> Iterator[Network]:
    reason = why_not_available()
    if reason is not None:
        pytest.skip(reason)
    with build(Topology(sites=(SiteSpec(name="lan", hosts=3, ipv6=True),))) as built:
        yield built


def ip(namespace: str, *arguments: str) -> None:
    subprocess.run(exec_in(namespace, ["ip", *arguments]), check=True, timeout=10, capture_output=True)


def readdress(host: Host, *addresses: str, device: str = "eth0") -> None:
    """These addresses and no others."""
    ip(host.namespace, "address", "flush", "dev", device, "scope", "global")
    for address in addresses:
        ip(host.namespace, "address", "add", address, "dev", device, *(["nodad"] if ":" in address else []))


def build_second_lan(lab: Network, server: Host) -> None:
    """A bridge beside the first, and a second cable of the server into it."""
    ip(lab.bridge, "link", "add", "br1", "type", "bridge")
    ip(lab.bridge, "link", "set", "br1", "up")
    ip(lab.bridge, "link", "add", "s1", "type", "veth", "peer", "name", "eth1", "netns", server.namespace)
    ip(lab.bridge, "link", "set", "s1", "master", "br1", "up")
    ip(server.namespace, "link", "set", "eth1", "up")
    readdress(server, "fd00::2/64", device="eth1")


def name_interfaces(endpoint: Endpoint, *names: str, **swarm: float) -> None:
    endpoint.configure(**swarm)
    text = endpoint.config.read_text().replace(f'metrics_host = "{endpoint.address}"', 'metrics_host = "127.0.0.1"')
    quoted = ", ".join(f'"{name}"' for name in names)
    endpoint.config.write_text(text.replace(f'interfaces = ["{endpoint.address}"]', f"interfaces = [{quoted}]"))


async def listens_at(endpoint: Endpoint, *hosts: str, reason: Reason | None = None) -> None:
    async def look() -> dict[str, Any]:
        network: dict[str, Any] = (await endpoint.status())["network"]
        return network

    def is_so(network: dict[str, Any]) -> bool:
        problem = network["problem"]["reason"] if network["problem"] else None
        return (sorted(network["addresses"]), problem) == (sorted(hosts), reason)

    await eventually(look, is_so, f"{endpoint.name} listens at {hosts} ({reason})")


async def addresses_of_peers(endpoint: Endpoint, *wanted: str) -> None:
    async def look() -> list[str]:
        return sorted(peer["address"] for peer in (await endpoint.ask("peers"))["peers"])

    await eventually(look, lambda now: now == sorted(wanted), f"{endpoint.name} has peers at {wanted}")


async def gains(endpoint: Endpoint, beyond: int) -> int:
    """Wait until that many bytes more have come from the LAN; how many there are then."""

    async def look() -> int:
        return int((await endpoint.attempt(PRODUCT)).get("bytes_lan", 0))

    return await eventually(look, lambda now: now >= beyond + SLICE, f"{endpoint.name} goes on")


@pytest.mark.root
async def test_a_laptop_goes_from_one_lan_to_another(
    lab: Network, template: Template, tmp_path: Path, processes: Processes
) -> None:
    desk_host, server_host, laptop_host = lab.sites[0].hosts
    build_second_lan(lab, server_host)
    fleet = FleetUnderTest(template, tmp_path, processes, address=LAB_ADDRESS_6)
    fleet.use_rings(Ring(name="everyone"))
    await fleet.start_coordinator(prefix=lab.origin.argv([]))
    desk, server, laptop = (
        fleet.endpoint(name, address=host.address, prefix=host.argv([]))
        for name, host in (("desk", desk_host), ("server", server_host), ("laptop", laptop_host))
    )
    name_interfaces(desk, "eth0")
    name_interfaces(server, "eth0", "eth1")
    name_interfaces(laptop, "eth0", download_bytes_per_second=BYTES_PER_SECOND)
    token = fleet.token(uses=3).encode()
    async with trio.open_nursery() as nursery:
        for endpoint in (desk, server, laptop):
            nursery.start_soon(endpoint.enrol, token)

    readdress(laptop_host)  # the interface is there, and the DHCP server is not
    await start_all(desk, server, laptop)
    await listens_at(laptop, reason=Reason.NO_NETWORK_ADDRESS)
    await listens_at(server, "10.77.2.2", "fd77::2:2", "fd00::2")
    await addresses_of_peers(desk, "10.77.2.2")  # one peer, by IPv4 first
    readdress(laptop_host, "fd77::2:3/64")
    await addresses_of_peers(laptop, "fd77::2:1", "fd77::2:2")
    readdress(laptop_host)
    await listens_at(laptop, reason=Reason.NO_NETWORK_ADDRESS)
    release = await fleet.release("1.0", 1, size=SIZE)
    for endpoint in (desk, server):
        await endpoint.reaches(release, "committed")
    await fleet.kill_coordinator()  # from here on all comes from peers, metadata too

    readdress(laptop_host, "fd77::2:3/64")
    await listens_at(laptop, "fd77::2:3")
    await addresses_of_peers(laptop, "fd77::2:1", "fd77::2:2")
    got = await gains(laptop, 0)

    readdress(laptop_host, "10.77.2.33/16")  # another address, of the other version
    await addresses_of_peers(laptop, "10.77.2.1", "10.77.2.2")
    got = await gains(laptop, got)

    ip(lab.bridge, "link", "set", "lan-3", "down")  # the cable is out
    await listens_at(laptop, reason=Reason.NO_NETWORK_ADDRESS)
    await addresses_of_peers(laptop)
    told = await laptop.told("why")
    assert Reason.NO_NETWORK_ADDRESS in [problem["reason"] for problem in told["problems"]]

    ip(lab.bridge, "link", "set", "lan-3", "master", "br1", "up")  # and in elsewhere
    readdress(laptop_host, "fd00::9/64")
    await addresses_of_peers(laptop, "fd00::2")
    seen = await laptop.reaches(release, "committed")
    assert seen["bytes_lan"] >= release.size
