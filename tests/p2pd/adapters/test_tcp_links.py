# SPDX-License-Identifier: Apache-2.0
"""Connections of this process are found by their ends, measured, and told to notice a host that vanishes."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from p2pd.adapters.tcp_links import KEEPALIVE_AFTER_SECONDS, UNANSWERED_MILLISECONDS, TcpLink, tend


@pytest.fixture(params=["127.0.0.1", "::1"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of one connection, over which something has been said."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server((request.param, 0), family=family))
        near = stack.enter_context(socket.create_connection(listener.getsockname()[:2]))
        far = stack.enter_context(listener.accept()[0])
        near.sendall(b"x")
        assert far.recv(1) == b"x"
        yield near, far


def link(connection: socket.socket) -> TcpLink:
    return TcpLink(connection.getsockname()[:2], connection.getpeername()[:2])


def test_a_connection_is_measured_and_told_to_notice(ends: tuple[socket.socket, socket.socket]) -> None:
    near, far = ends
    round_trips = tend({link(near)})
    assert round_trips.keys() == {link(near)}
    assert 0 < round_trips[link(near)] < 10
    assert near.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert near.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == KEEPALIVE_AFTER_SECONDS
    assert near.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == UNANSWERED_MILLISECONDS
    assert not far.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), "the other end was not asked for"
    near.sendall(b"y")
    assert far.recv(1) == b"y", "it works on"


def test_a_connection_that_is_gone_is_left_out(ends: tuple[socket.socket, socket.socket]) -> None:
    near, far = ends
    gone, still_there = link(near), link(far)
    near.close()
    assert tend({gone, still_there}).keys() == {still_there}
    assert tend(()) == {}
