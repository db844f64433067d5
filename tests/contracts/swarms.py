# SPDX-License-Identifier: Apache-2.0
"""What the tests of any `Swarm` share: two ways to open one, and waiting for its transfers."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import trio

from p2pd.adapters.torrent_session import open_torrent_session
from p2pd.ports import Endpoint, Swarm, Transfer, TransferProgress
from signing.devices import SegmentAuthority
from tests.fakes.segment import enrol

OpenSwarm = Callable[[str], AbstractAsyncContextManager[Swarm]]

HOST = "127.0.0.1"
WAIT_SECONDS = 20.0  # takes some tenths of a second; this is for machines that are busy with something else


def open_real(authority: SegmentAuthority, device: str) -> AbstractAsyncContextManager[Swarm]:
    """libtorrent over loopback."""
    badge = enrol(authority, device)
    return open_torrent_session(
        interfaces=[Endpoint(host=HOST, port=0)],
        certificate_pem=badge.certificate_pem,
        key_pem=badge.key_pem,
        device=device,
    )


def endpoint(swarm: Swarm) -> Endpoint:
    """Where it can be dialled."""
    return Endpoint(host=HOST, port=swarm.port)


async def until(transfer: Transfer, condition: Callable[[TransferProgress], bool]) -> TransferProgress:
    """Wait for the transfer to get there, looking only when it says that something changed."""
    with trio.fail_after(WAIT_SECONDS):
        while not condition(transfer.progress()):
            await transfer.changed()
    return transfer.progress()
