# SPDX-License-Identifier: Apache-2.0
"""The kernel's own words about a connection, and a window that holds back a sender that would send everything."""

import socket
from collections.abc import Iterator

import pytest

from p2pd.adapters.tcp_window import IS_SUPPORTED, TcpWindow

pytestmark = pytest.mark.skipif(not IS_SUPPORTED, reason="receive windows are set on Linux only")


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Of one connection: ours, and a sender that never waits."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as ours:
        theirs, _ = server.accept()
        with theirs:
            theirs.setblocking(False)
            yield ours, theirs


def fill(sender: socket.socket) -> int:
    """Write until nothing fits; how much did."""
    written = 0
    try:
        while True:
            written += sender.send(bytes(65_536))
    except BlockingIOError:
        return written


def test_it_knows_round_trips_and_bytes(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    theirs.send(bytes(1_000))
    assert len(ours.recv(1_000, socket.MSG_WAITALL)) == 1_000
    facts = TcpWindow(ours).look()
    assert facts is not None
    assert facts.received == 1_000
    assert facts.is_loopback
    assert facts.least is not None
    assert 0 < facts.least < 1


def test_a_squeezed_connection_keeps_little_unread(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    window = TcpWindow(ours)
    window.limit(2_304)
    window.squeeze(4_096)
    fill(theirs)
    facts = window.look()
    assert facts is not None
    assert facts.received < 65_536


def test_released_the_buffer_is_what_it_was_and_the_kernel_tunes_it(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, _ = ends
    before = ours.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    window = TcpWindow(ours)
    window.squeeze(4_096)
    assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) < before
    window.release()
    assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == before
    so_buf_lock = 72
    assert ours.getsockopt(socket.SOL_SOCKET, so_buf_lock) == 0


def test_a_closed_connection_is_left_alone(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, _ = ends
    window = TcpWindow(ours)
    ours.close()
    window.limit(2_304)
    window.squeeze(4_096)
    window.release()
    assert window.look() is None
