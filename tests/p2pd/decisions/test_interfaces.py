# SPDX-License-Identifier: Apache-2.0
"""What is listened on follows from the configuration and the host's addresses, and from nothing else."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pd.decisions.interfaces import MAX_HOSTS, check_interfaces, find_whereabouts
from p2pd.ports_network import HostAddress, HostNetwork
from signing.errors import BadInput


def at(interface: str, address: str, **flags: bool) -> HostAddress:
    host, _, prefix = address.partition("/")
    return HostAddress(interface=interface, host=host, prefix=int(prefix), **flags)


LO = at("lo", "127.0.0.1/8")


def network(*addresses: HostAddress, unlinked: tuple[str, ...] = (), bare: tuple[str, ...] = ()) -> HostNetwork:
    names = frozenset(address.interface for address in addresses) | set(bare)
    return HostNetwork(interfaces=names, linked=names - set(unlinked), addresses=addresses)


def hosts(configured: str, *addresses: HostAddress, unlinked: tuple[str, ...] = ()) -> list[str]:
    return list(find_whereabouts(configured.split(), network(*addresses, unlinked=unlinked)).hosts)


def test_a_name_stands_for_each_network_of_its_interface_and_no_other() -> None:
    wired = (
        at("eth0", "10.0.0.5/24"),
        at("eth0", "10.9.0.5/24"),
        at("eth0", "fd00::5/64"),
        at("eth0", "2001:db8::5/64"),
    )
    assert hosts("eth0", *wired, at("wlan0", "10.1.0.5/24")) == ["10.0.0.5", "10.9.0.5", "fd00::5", "2001:db8::5"]
    assert hosts("wlan0 eth0", *wired[:1], at("wlan0", "10.1.0.5/24")) == ["10.1.0.5", "10.0.0.5"]


def test_one_address_of_each_network_the_one_that_lasts() -> None:
    assert hosts("eth0", at("eth0", "10.0.0.5/24"), at("eth0", "10.0.0.6/24")) == ["10.0.0.5"]
    today = at("eth0", "fd00::aaaa/64", is_temporary=True)
    assert hosts("eth0", today, at("eth0", "fd00::5/64")) == ["fd00::5"]
    assert hosts("eth0", today) == ["fd00::aaaa"]


def test_what_is_on_its_way_out_gives_way_and_what_is_not_ready_waits() -> None:
    old = at("eth0", "2001:db8:1::5/64", is_deprecated=True)
    assert hosts("eth0", old, at("eth0", "2001:db8:2::5/64")) == ["2001:db8:2::5"]
    assert hosts("eth0", old, at("eth0", "10.0.0.5/24")) == ["2001:db8:1::5", "10.0.0.5"]
    assert hosts("eth0", at("eth0", "fd00::5/64", is_tentative=True)) == []
    assert hosts("fd00::5", at("eth0", "fd00::5/64", is_tentative=True)) == []


def test_link_local_addresses_are_left_out_unless_ipv4_is_named() -> None:
    both = (at("eth0", "169.254.3.3/16"), at("eth0", "fe80::5/64"))
    assert hosts("eth0", *both) == []
    assert hosts("169.254.3.3", *both) == ["169.254.3.3"]


def test_without_a_link_an_address_is_as_good_as_none() -> None:
    assert hosts("eth0 10.0.0.5", at("eth0", "10.0.0.5/24"), unlinked=("eth0",)) == []


def test_a_numeric_address_stands_for_itself_while_it_is_there() -> None:
    assert hosts("10.0.0.6 10.0.0.7", at("eth0", "10.0.0.5/24"), at("eth0", "10.0.0.6/24")) == ["10.0.0.6"]
    assert hosts("FD00:0::5", at("eth0", "fd00::5/64")) == ["fd00::5"]
    assert hosts("127.0.0.7", LO) == ["127.0.0.7"]


def test_a_change_of_any_address_that_reaches_further_than_the_link_counts() -> None:
    docker = at("veth1", "fe80::7/64")
    before = find_whereabouts(["eth0"], network(at("eth0", "10.0.0.5/24"), docker, at("vpn", "10.8.0.2/32")))
    assert before.present == {"10.0.0.5", "10.8.0.2"}
    assert find_whereabouts(["eth0"], network(at("eth0", "10.0.0.5/24"), at("vpn", "10.8.0.2/32"))) == before
    assert find_whereabouts(["eth0"], network(at("eth0", "10.0.0.5/24"))) != before


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("eth7", r"cfg: no interface 'eth7' here.*there are: eth0, lo"),
        ("0.0.0.0", "does not belong to one interface"),  # noqa: S104 (refused)
        ("::", "does not belong to one interface"),
        ("224.0.0.251", "does not belong to one interface"),
        ("fe80::1", "link-local"),
    ],
)
def test_what_can_never_be_listened_on_is_told_with_the_remedy(entry: str, problem: str) -> None:
    with pytest.raises(BadInput, match=problem):
        check_interfaces(["eth0", entry], network(LO, bare=("eth0",)), where="cfg")


def test_what_may_come_is_no_error() -> None:
    check_interfaces(["eth0", "10.0.0.5", "fd00::5"], network(LO, bare=("eth0",)), where="cfg")


NAMES = ["eth0", "wlan0", "lo"]
HOSTS = st.one_of(
    st.ip_addresses(v=4, network="10.0.0.0/28"),
    st.ip_addresses(v=6, network="fd00::/124"),
    st.ip_addresses(v=6, network="2001:db8::/124"),
    st.sampled_from([ip_address("fe80::1"), ip_address("127.0.0.1"), ip_address("169.254.0.1")]),
)
ADDRESSES = st.builds(
    lambda interface, host, short, temporary, deprecated, tentative: HostAddress(
        interface=interface,
        host=str(host),
        prefix=(28 if short else 32) if host.version == 4 else (124 if short else 128),
        is_temporary=temporary,
        is_deprecated=deprecated,
        is_tentative=tentative,
    ),
    st.sampled_from(NAMES),
    HOSTS,
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
NETWORKS = st.builds(
    lambda addresses, linked: HostNetwork(
        interfaces=frozenset(NAMES), linked=frozenset(linked), addresses=tuple(addresses)
    ),
    st.lists(ADDRESSES, max_size=24, unique_by=lambda address: (address.interface, address.host)),
    st.sets(st.sampled_from(NAMES)),
)
CONFIGURED = st.lists(st.one_of(st.sampled_from(NAMES), HOSTS.map(str)), min_size=1, max_size=6)


@given(CONFIGURED, NETWORKS)
def test_nothing_is_bound_that_is_not_configured_here_and_ready(configured: list[str], now: HostNetwork) -> None:
    found = find_whereabouts(configured, now).hosts
    assert len(set(found)) == len(found) <= MAX_HOSTS
    for host in found:
        homes = [each for each in now.addresses if each.host == host and each.interface in now.linked]
        if ip_address(host).is_loopback and not homes:
            assert host in configured
            continue
        assert any(not home.is_tentative for home in homes)
        assert host in configured or any(home.interface in configured for home in homes)
        assert host in configured or not ip_address(host).is_link_local


@given(CONFIGURED, NETWORKS)
def test_every_network_of_a_configured_interface_is_served_by_one_address(
    configured: list[str], now: HostNetwork
) -> None:
    now = replace(now, addresses=tuple(replace(each, is_deprecated=False) for each in now.addresses))
    found = {ip_address(host) for host in find_whereabouts(configured, now).hosts}
    for each in now.addresses:
        usable = each.interface in now.linked and not each.is_tentative and not ip_address(each.host).is_link_local
        if each.interface in configured and usable:
            assert len(found) == MAX_HOSTS or any(
                host in ip_network((each.host, each.prefix), strict=False) for host in found
            )


@given(CONFIGURED, NETWORKS)
def test_the_configuration_decides_the_order_of_interfaces(configured: list[str], now: HostNetwork) -> None:
    found = find_whereabouts(configured, now).hosts
    first = find_whereabouts(configured[:1], now).hosts
    assert found[: len(first)] == first
