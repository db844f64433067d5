# SPDX-License-Identifier: Apache-2.0
"""Where a session may listen and dial; that libtorrent does so is in tests/contracts/test_swarm_connecting.py."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from p2pd.adapters import torrent_addresses
from p2pd.adapters.torrent_addresses import LISTEN_SECONDS, TorrentAddresses
from p2pd.adapters.torrent_session import open_torrent_session
from p2pd.host.supervise import ServiceFailure
from p2pd.ports import Endpoint
from signing.errors import BadInput
from tests.fakes.segment import create_authority, enrol


def endpoints(*hosts: str, port: int = 7681) -> list[Endpoint]:
    return [Endpoint(host=host, port=port) for host in hosts]


def test_both_versions_of_ip_are_listened_on() -> None:
    settings = TorrentAddresses(endpoints("10.0.0.5", "fd00::5"), 7681).settings()
    assert settings["listen_interfaces"] == "10.0.0.5:7681s,[fd00::5]:7681s"


def test_libtorrent_is_bound_to_one_address_chooses_among_several_and_dials_from_none() -> None:
    def outgoing(*hosts: str) -> object:
        return TorrentAddresses(endpoints(*hosts), 7681).settings()["outgoing_interfaces"]

    assert outgoing("10.0.0.5") == "10.0.0.5"
    assert outgoing("10.0.0.5", "10.1.0.5") == ""
    assert len(str(outgoing())) > 15, "no interface has such a name"


@pytest.mark.parametrize(
    "interfaces",
    [endpoints("10.0.0.5") + endpoints("10.0.0.6", port=1), endpoints("a", port=1), endpoints(*"ab", port=0)],
)
def test_what_cannot_be_listened_on_together_is_bad_input(interfaces: list[Endpoint]) -> None:
    with pytest.raises(BadInput, match=r"^torrent interfaces: "):
        TorrentAddresses(interfaces, 7681)


def test_of_several_interfaces_only_ours_are_dialled_from(monkeypatch: pytest.MonkeyPatch) -> None:
    routes = {"10.0.0.9": "10.0.0.5", "fd00::9": "fd00::aaaa", "10.1.0.9": "10.1.0.5"}
    devices = {"10.0.0.5": "eth0", "fd00::5": "eth0", "fd00::aaaa": "eth0", "10.1.0.5": "wlan0"}
    monkeypatch.setattr(torrent_addresses, "_source_towards", routes.get)
    monkeypatch.setattr(
        torrent_addresses, "_devices", lambda hosts: {host: devices[host] for host in hosts if host in devices}
    )
    addresses = TorrentAddresses(endpoints("10.0.0.5", "fd00::5"), 7681)
    dialled = [host for host in (*routes, "10.2.0.9") if addresses.may_dial(Endpoint(host=host, port=7681))]
    assert dialled == ["10.0.0.9", "fd00::9"]
    addresses.move_to(["10.1.0.5"])
    assert addresses.may_dial(Endpoint(host="10.0.0.9", port=7681)), "libtorrent is bound to the address itself"
    addresses.move_to([])
    assert not addresses.may_dial(Endpoint(host="10.0.0.9", port=7681))


def test_the_kernel_tells_the_way_without_a_word_on_the_wire() -> None:
    assert torrent_addresses._source_towards("127.0.0.9") == "127.0.0.1"
    assert torrent_addresses._source_towards("2001:db8::1%nowhere") is None
    assert torrent_addresses._devices(["127.0.0.1", "127.9.9.9", "192.0.2.251"]) == {
        "127.0.0.1": "lo",
        "127.9.9.9": "lo",
    }


async def test_an_address_that_is_not_here_is_told_and_may_come(frozen_clock: MockClock) -> None:
    addresses = TorrentAddresses(endpoints("10.0.0.5"), 7681)
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            with pytest.raises(ServiceFailure, match="only 0 of 1"):
                await addresses.all_open()

        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        frozen_clock.jump(LISTEN_SECONDS)


async def test_a_session_opens_nowhere_moves_and_tries_again_what_did_not_work() -> None:
    badge = enrol(create_authority(), "pc-1")
    async with open_torrent_session(
        certificate_pem=badge.certificate_pem, key_pem=badge.key_pem, device="pc-1"
    ) as swarm:
        await swarm.listen_on(["127.0.0.31"])
        port = swarm.port
        with await _taken("127.0.0.32", port), pytest.raises(BadInput, match=r"127\.0\.0\.32 port .* is in use"):
            await swarm.listen_on(["127.0.0.31", "127.0.0.32"])
        await swarm.listen_on(["127.0.0.31", "127.0.0.32"])
        with pytest.raises(ServiceFailure, match=r"203\.0\.113\.7"):
            await swarm.listen_on(["127.0.0.32", "203.0.113.7"])
        assert await _answers("127.0.0.32", port)
        assert not await _answers("127.0.0.31", port)


async def _taken(host: str, port: int) -> trio.socket.SocketType:
    sock = trio.socket.socket()
    await sock.bind((host, port))
    sock.listen()
    return sock


async def _answers(host: str, port: int) -> bool:
    try:
        await (await trio.open_tcp_stream(host, port)).aclose()
    except OSError:
        return False
    return True
