# SPDX-License-Identifier: Apache-2.0
"""Hints of the kernel become one event; what is there is looked at anew. Real changes: tests/end_to_end/test_roaming.py."""

import socket
import sys
from pathlib import Path

import psutil
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from p2pd.adapters import network_changes
from p2pd.adapters.network_changes import (
    FALLBACK_SECONDS,
    LONGEST_SECONDS,
    REST_SECONDS,
    NetworkChanges,
    open_network_changes,
)


def test_this_host_has_a_loopback_device() -> None:
    with open_network_changes() as changes:
        network = changes.look()
    loopback = [address for address in network.addresses if address.host == "127.0.0.1"]
    assert [address.prefix for address in loopback] == [8]
    assert {address.interface for address in network.addresses} <= network.interfaces
    assert loopback[0].interface in network.linked


def test_the_kernel_says_what_an_address_is_good_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = tmp_path / "if_inet6"
    listed.write_text(
        "00000000000000000000000000000001 01 80 10 80       lo\n"
        "fd000000000000000000000000000005 02 40 00 61     eth0\n"
        "fd000000000000000000000000000006 02 40 00 44     eth0\n"
        "fd000000000000000000000000000007 02 40 00 08     eth0\n"
    )
    monkeypatch.setattr(network_changes, "_IPV6_LIST", listed)
    netmask = "ffff:ffff:ffff:ffff::"
    entries = [
        psutil._ntuples.snicaddr(socket.AF_INET6, f"fd00::{number}%eth0", netmask, None, None)
        for number in (5, 6, 7, 8)
    ]
    found = list(network_changes._addresses({"eth0": entries}, network_changes._read_ipv6_flags()))
    assert [address.host for address in found] == ["fd00::5", "fd00::6", "fd00::7", "fd00::8"]
    assert {address.prefix for address in found} == {64}
    flags = [(address.is_temporary, address.is_deprecated, address.is_tentative) for address in found]
    optimistic, unknown = (False, False, False), (False, False, False)
    assert flags == [(True, True, True), optimistic, (False, False, True), unknown]


def test_a_host_without_ipv6_has_no_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_changes, "_IPV6_LIST", tmp_path / "none")
    assert network_changes._read_ipv6_flags() == {}


@pytest.mark.skipif(sys.platform != "linux", reason="rtnetlink is Linux's")
async def test_hints_come_from_the_kernel_and_nothing_comes_from_a_host_at_rest() -> None:
    with open_network_changes() as changes:
        assert changes._hints is not None
        assert changes._hints.family == socket.AF_NETLINK
        with pytest.raises(BlockingIOError):
            changes._hints.recv(1)


async def test_many_hints_are_one_event_once_they_are_over(frozen_clock: MockClock) -> None:
    ours, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    events: list[float] = []

    async def watch() -> None:
        changes = NetworkChanges(ours)
        while True:
            await changes.changed()
            events.append(trio.current_time())

    async def hint() -> None:
        kernel.send(b"hint")
        while _has_data(ours):
            await trio.lowlevel.checkpoint()
        await wait_all_tasks_blocked()

    with ours, kernel:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            began = trio.current_time()
            for _ in range(3):
                await hint()
                frozen_clock.jump(REST_SECONDS / 2)
            assert events == []
            frozen_clock.jump(REST_SECONDS)
            await wait_all_tasks_blocked()
            assert len(events) == 1
            restless = 0
            while len(events) == 1 and restless < 100:
                await hint()
                frozen_clock.jump(REST_SECONDS / 2)
                restless += 1
                await wait_all_tasks_blocked()
            assert trio.current_time() - began < 2 * LONGEST_SECONDS + 5 * REST_SECONDS
            nursery.cancel_scope.cancel()


async def test_elsewhere_addresses_are_looked_at_now_and_then(frozen_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(NetworkChanges(None).changed)
        await wait_all_tasks_blocked()
        frozen_clock.jump(FALLBACK_SECONDS)


def _has_data(sock: socket.socket) -> bool:
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False
