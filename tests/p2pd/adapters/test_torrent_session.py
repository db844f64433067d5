# SPDX-License-Identifier: Apache-2.0
"""What only the libtorrent session does: interfaces, endings, lost alerts, full disks. The rest: tests/contracts."""

import gc
import shutil
import socket
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import SimpleNamespace

import libtorrent as lt
import pytest
import trio

from p2pd.adapters import torrent_session, torrent_settings, torrent_transfer
from p2pd.adapters.torrent_session import TorrentSwarm, open_torrent_session
from p2pd.adapters.torrent_settings import SwarmLimits
from p2pd.host.supervise import ServiceFailure
from p2pd.ports import Endpoint, PayloadStoreFull, Transfer, TransferFailed, TransferProgress
from signing.devices import SegmentAuthority
from signing.errors import BadInput
from signing.reasons import Reason
from tests.fakes.segment import Payload, create_authority, enrol, is_complete, make_payload

HOST = "127.0.0.1"
WAIT_SECONDS = 20.0


@pytest.fixture(scope="module")
def authority() -> SegmentAuthority:
    return create_authority()


@pytest.fixture
def payload(tmp_path: Path, authority: SegmentAuthority) -> Payload:
    return make_payload(tmp_path, authority)


def open_swarm(
    authority: SegmentAuthority, *interfaces: Endpoint, device: str = "pc-1", limits: SwarmLimits | None = None
) -> AbstractAsyncContextManager[TorrentSwarm]:
    badge = enrol(authority, device)
    return open_torrent_session(
        interfaces=interfaces or (Endpoint(host=HOST, port=0),),
        certificate_pem=badge.certificate_pem,
        key_pem=badge.key_pem,
        device=device,
        limits=limits,
    )


async def until(transfer: Transfer, condition: Callable[[TransferProgress], bool]) -> TransferProgress:
    with trio.fail_after(WAIT_SECONDS):
        while not condition(transfer.progress()):
            await transfer.changed()
    return transfer.progress()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
        assert isinstance(port, int)
        return port


async def test_it_listens_where_it_is_told_and_nowhere_else(authority: SegmentAuthority) -> None:
    port = free_port()
    async with open_swarm(authority, Endpoint(host=HOST, port=port), Endpoint(host="127.0.0.2", port=port)) as swarm:
        assert swarm.port == port
        for host in (HOST, "127.0.0.2"):
            await (await trio.open_tcp_stream(host, port)).aclose()
        with pytest.raises(OSError, match=r"127\.0\.0\.3"):
            await trio.open_tcp_stream("127.0.0.3", port)


async def test_the_port_is_free_again_afterwards(authority: SegmentAuthority, payload: Payload, tmp_path: Path) -> None:
    async with open_swarm(authority) as swarm, swarm.transfer(payload.put(tmp_path / "pc-1")):
        port = swarm.port
    with socket.socket() as probe:
        probe.bind((HOST, port))


async def test_a_port_in_use_is_named_with_a_remedy(authority: SegmentAuthority) -> None:
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(BadInput, match=rf"127\.0\.0\.1 port {port}: is in use .*; .* configure another"):
            async with open_swarm(authority, Endpoint(host=HOST, port=port)):
                pytest.fail("it listens")


async def test_an_address_that_is_not_there_yet_may_come(authority: SegmentAuthority) -> None:
    with pytest.raises(ServiceFailure, match=r"192\.0\.2\.1"):
        async with open_swarm(authority, Endpoint(host="192.0.2.1", port=0)):
            pytest.fail("it listens")


@pytest.mark.parametrize(
    "interfaces",
    [
        [Endpoint(host="localhost", port=0)],
        [Endpoint(host=HOST, port=0), Endpoint(host="127.0.0.2", port=0)],
        [Endpoint(host=HOST, port=7_001), Endpoint(host="127.0.0.2", port=7_002)],
    ],
)
async def test_interfaces_that_make_no_sense_are_refused(
    interfaces: list[Endpoint], authority: SegmentAuthority
) -> None:
    with pytest.raises(BadInput, match="torrent interfaces"):
        async with open_swarm(authority, *interfaces):
            pytest.fail("it listens")


async def test_a_key_that_is_not_the_certificates_is_refused(authority: SegmentAuthority) -> None:
    one, another = enrol(authority, "pc-1"), enrol(authority, "pc-1")
    with pytest.raises(BadInput, match="device certificate"):
        async with open_torrent_session(
            interfaces=[Endpoint(host=HOST, port=0)],
            certificate_pem=one.certificate_pem,
            key_pem=another.key_pem,
            device="pc-1",
        ):
            pytest.fail("it listens")


async def test_it_does_not_dial_itself(authority: SegmentAuthority, payload: Payload, tmp_path: Path) -> None:
    async with open_swarm(authority) as swarm, swarm.transfer(payload.spec(tmp_path / "pc-1")) as transfer:
        transfer.connect(Endpoint(host=HOST, port=swarm.port))
        assert transfer._handle.status().list_peers == 0
        transfer.connect(Endpoint(host="127.0.0.2", port=swarm.port))  # somebody else, at the same port
        assert transfer._handle.status().list_peers == 1


async def test_being_cancelled_ends_everything_in_order(
    authority: SegmentAuthority, payload: Payload, tmp_path: Path
) -> None:
    """Transfers settle by alerts that the session brings: it must outlive them, within the same cancelled scope."""
    with trio.fail_after(torrent_transfer.CLOSE_SECONDS / 2), trio.CancelScope() as scope:
        async with open_swarm(authority) as swarm, swarm.transfer(payload.spec(tmp_path / "pc-1")) as transfer:
            for index in range(5):
                assert await transfer.add_piece(index, payload.piece(index))
            scope.cancel()
            await trio.sleep_forever()
    assert not torrent_session._abandoned
    assert (tmp_path / "pc-1" / "office").read_bytes().startswith(payload.data[: 5 * len(payload.piece(0))])


async def test_what_came_slowly_is_on_disk_soon(authority: SegmentAuthority, payload: Payload, tmp_path: Path) -> None:
    """A kill in mid-transfer shall not cost megabytes, which is what libtorrent collects before it writes by itself."""
    spec = payload.spec(tmp_path / "pc-1")
    async with open_swarm(authority) as swarm, swarm.transfer(spec) as transfer:
        assert await transfer.add_piece(1, payload.piece(1))
        file = trio.Path(spec.directory / spec.name)
        with trio.fail_after(WAIT_SECONDS):
            while True:
                if await file.exists() and payload.piece(1) in await file.read_bytes():
                    break
                await trio.sleep(0.01)
        assert not transfer.progress().is_complete, "written does not mean complete"


async def test_nothing_keeps_the_session_alive(authority: SegmentAuthority, payload: Payload, tmp_path: Path) -> None:
    """It goes with its port at once, even while somebody holds the traceback of what went wrong inside."""
    ports = []

    async def go_wrong() -> None:
        async with open_swarm(authority) as swarm, swarm.transfer(payload.spec(tmp_path / "pc-1")):
            ports.append(swarm.port)
            raise ZeroDivisionError

    gc.disable()
    try:
        with pytest.raises(ZeroDivisionError) as kept:
            await go_wrong()
        with socket.socket() as probe:
            probe.bind((HOST, ports[0]))
        assert kept.tb is not None
    finally:
        gc.enable()


async def test_a_session_whose_disk_does_not_answer_is_left_behind(
    authority: SegmentAuthority, payload: Payload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its destructor would keep the whole process waiting, deadlines or not."""
    monkeypatch.setattr(torrent_transfer, "CLOSE_SECONDS", 0.05)
    async with open_swarm(authority) as swarm, swarm.transfer(payload.spec(tmp_path / "pc-1")) as transfer:
        receive = transfer.receive
        is_paused = lt.torrent_paused_alert
        monkeypatch.setattr(transfer, "receive", lambda alert: isinstance(alert, is_paused) or receive(alert))
    assert len(torrent_session._abandoned) == 1
    torrent_session._abandoned.clear()  # this disk does answer


async def test_lost_alerts_are_made_up_for(
    authority: SegmentAuthority, payload: Payload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leecher hears nothing of its whole transfer; then libtorrent says that its queue ran over."""
    monkeypatch.setattr(torrent_settings, "ALERT_QUEUE", 10)
    async with (
        open_swarm(authority) as swarm,
        open_swarm(authority, device="pc-2") as other,
        swarm.transfer(payload.put(tmp_path / "pc-1")),
        other.transfer(payload.spec(tmp_path / "pc-2")) as leech,
    ):
        with monkeypatch.context() as deaf, trio.fail_after(WAIT_SECONDS):
            deaf.setattr(leech, "receive", lambda alert: None)
            deaf.setattr(leech, "receive_status", lambda status: None)
            leech.connect(Endpoint(host=HOST, port=swarm.port))
            while not leech._handle.status().is_seeding:  # noqa: ASYNC110 (nothing tells: that is the point)
                await trio.sleep(0.01)
        assert not leech.progress().have
        looked: list[None] = []
        look_again = leech.look_again
        monkeypatch.setattr(leech, "look_again", lambda: looked.append(look_again()))
        for _ in range(100):
            leech._handle.post_status(0)
        leech._handle.status()  # waits until libtorrent has answered all of them, into a queue for ten
        progress = await until(leech, is_complete)
        assert len(progress.have) == progress.piece_count
        assert progress.bytes_lan == len(payload.data)
        assert looked


async def test_limits_hold_on_the_lan(authority: SegmentAuthority, tmp_path: Path) -> None:
    """Half a megabyte at half a megabyte a second; libtorrent exempts private addresses unless told otherwise."""
    payload = make_payload(tmp_path, authority, pieces=32)
    limits = SwarmLimits(download_bytes_per_s=2**19)
    async with (
        open_swarm(authority) as swarm,
        open_swarm(authority, device="pc-2", limits=limits) as other,
        swarm.transfer(payload.put(tmp_path / "pc-1")),
        other.transfer(payload.spec(tmp_path / "pc-2")) as leech,
    ):
        leech.connect(Endpoint(host=HOST, port=swarm.port))
        await until(leech, lambda now: bool(now.have))
        began = trio.current_time()
        await until(leech, is_complete)
        assert trio.current_time() - began > 0.5


async def test_a_full_disk_is_known_before_anything_moves(
    authority: SegmentAuthority, payload: Payload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowded = SimpleNamespace(free=len(payload.data) - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: crowded)
    async with open_swarm(authority) as swarm:
        with pytest.raises(PayloadStoreFull) as refusal:
            async with swarm.transfer(payload.spec(tmp_path / "pc-1")):
                pytest.fail("it was carried")
        assert refusal.value.reason is Reason.DISK_FULL
        async with swarm.transfer(payload.put(tmp_path / "pc-2")) as transfer:  # what is there needs no more room
            await until(transfer, is_complete)


async def test_a_directory_that_cannot_be_made_is_named(
    authority: SegmentAuthority, payload: Payload, tmp_path: Path
) -> None:
    (tmp_path / "pc-1").write_text("a file where the directory should be")
    async with open_swarm(authority) as swarm:
        with pytest.raises(TransferFailed, match="pc-1"):
            async with swarm.transfer(payload.spec(tmp_path / "pc-1")):
                pytest.fail("it was carried")


async def test_a_file_that_cannot_be_written_ends_the_transfer(
    authority: SegmentAuthority, payload: Payload, tmp_path: Path
) -> None:
    async def fill(swarm: TorrentSwarm) -> None:
        async with swarm.transfer(payload.spec(tmp_path / "pc-1")) as transfer:
            (tmp_path / "pc-1" / "office").mkdir()
            for index in range(payload.piece_count):
                await transfer.add_piece(index, payload.piece(index))
            await until(transfer, is_complete)

    async with open_swarm(authority) as swarm:
        with pytest.raises(TransferFailed, match="pc-1"):
            await fill(swarm)
        (tmp_path / "pc-1" / "office").rmdir()
        async with swarm.transfer(payload.put(tmp_path / "pc-2")) as transfer:
            await until(transfer, is_complete)


async def test_ticks_are_rare_unless_a_transfer_needs_them(
    authority: SegmentAuthority, payload: Payload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libtorrent's settings cannot be read back in Python: its binding takes the peer id for text."""
    asked: list[bool] = []

    def recorded(*, is_idle: bool) -> "lt.settings_pack":
        asked.append(is_idle)
        return torrent_settings.pace_settings(is_idle=is_idle)

    monkeypatch.setattr(torrent_session, "pace_settings", recorded)
    async with open_swarm(authority) as swarm, swarm.transfer(payload.put(tmp_path / "whole")) as whole:
        await until(whole, is_complete)
        assert asked == [False, True]
        async with swarm.transfer(make_payload(tmp_path, authority, seed=2).spec(tmp_path / "empty")):
            assert asked == [False, True, False]
        assert asked == [False, True, False, True]
