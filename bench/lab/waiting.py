# SPDX-License-Identifier: Apache-2.0
"""Waiting for what other processes do, by looking: they are not ours to be told by."""

from collections.abc import Awaitable, Callable

import trio

from p2pd.host.control_socket import ControlUnreachable

LOOK_SECONDS = 0.2


async def eventually(look: Callable[[], Awaitable[bool]]) -> None:
    """Look until it is so; a daemon that does not answer yet is looked at again. Bounded by the caller's deadline."""
    while True:
        try:
            if await look():
                return
        except ControlUnreachable:
            pass  # not there yet
        await trio.sleep(LOOK_SECONDS)
