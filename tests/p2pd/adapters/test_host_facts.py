# SPDX-License-Identifier: Apache-2.0
"""Whether the way to the origin is a tunnel, from files as Linux writes them."""

from pathlib import Path

import pytest

from p2pd.adapters.host_facts import SystemHostFacts

IPV4_HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
ETHERNET = "eth0\t00000000\t0100A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
TUNNEL = "wg0\t00000000\t00000000\t0001\t0\t0\t50\t00000000\t0\t0\t0\n"
TUNNEL_TO_TEN = "tun0\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0\n"  # 10.0.0.0/8
IPV6_TUNNEL = f"{'0' * 32} 00 {'0' * 32} 00 {'0' * 32} 00000400 00000001 00000000 00000001 wg0\n"
IPV6_REFUSED = f"{'0' * 32} 00 {'0' * 32} 00 {'0' * 32} ffffffff 00000001 00000000 00200200 lo\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A host with an Ethernet interface and two tunnels."""
    for name, kind in (("eth0", 1), ("wg0", 65534), ("tun0", 65534)):
        directory = tmp_path / "sys/class/net" / name
        directory.mkdir(parents=True)
        (directory / "type").write_text(f"{kind}\n")
    (tmp_path / "proc/net").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(
    ("routes", "origin", "is_vpn"),
    [
        (ETHERNET, "192.0.2.1", False),
        (ETHERNET + TUNNEL, "192.0.2.1", True),  # the lower metric
        (ETHERNET + TUNNEL_TO_TEN, "10.1.2.3", True),  # the longer prefix
        (ETHERNET + TUNNEL_TO_TEN, "192.0.2.1", False),
        ("", "192.0.2.1", None),
    ],
)
async def test_the_way_to_the_origin_decides(root: Path, routes: str, origin: str, is_vpn: bool | None) -> None:
    (root / "proc/net/route").write_text(IPV4_HEAD + routes)
    found = await SystemHostFacts(root).look(origin=origin, hosts=())
    assert found.is_vpn is is_vpn


async def test_ipv6_routes_count_too_and_those_that_refuse_do_not(root: Path) -> None:
    (root / "proc/net/ipv6_route").write_text(IPV6_REFUSED)
    looks = SystemHostFacts(root)
    assert (await looks.look(origin="2001:db8::1", hosts=())).is_vpn is None
    (root / "proc/net/ipv6_route").write_text(IPV6_REFUSED + IPV6_TUNNEL)
    assert (await looks.look(origin="2001:db8::1", hosts=())).is_vpn is True


async def test_without_network_manager_nobody_knows_whether_a_link_is_metered(root: Path) -> None:
    assert (await SystemHostFacts(root).look(origin="192.0.2.1", hosts=())).is_metered is None


@pytest.mark.parametrize(
    ("routes", "origin", "is_near"),
    [
        ("eth0\t0000A8C0\t00000000\t0001\t0\t0\t100\t0000FFFF\t0\t0\t0\n", "192.168.7.1", True),
        (ETHERNET, "192.0.2.1", False),
        (TUNNEL_TO_TEN, "10.1.2.3", False),  # a tunnel has no routers, and a WAN beneath
        ("", "192.0.2.1", False),
    ],
)
async def test_an_origin_on_a_lan_of_this_host_is_near(root: Path, routes: str, origin: str, is_near: bool) -> None:
    (root / "proc/net/route").write_text(IPV4_HEAD + routes)
    found = await SystemHostFacts(root).look(origin=origin, hosts=())
    assert found.is_origin_near is is_near
