# SPDX-License-Identifier: Apache-2.0
"""Waits for what is to become true, by looking again and again until a deadline; never by sleeping and hoping."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import httpx
import trio

from p2pd.host.control_socket import ControlUnreachable

WAIT_SECONDS = 60.0  # what takes two seconds by itself may take twenty on a machine with better things to do
LOOK_SECONDS = 0.05

T = TypeVar("T")


async def eventually(
    look: Callable[[], Awaitable[T]],
    is_so: Callable[[T], bool],
    what: str,
    *,
    seconds: float = WAIT_SECONDS,
) -> T:
    """What `look` saw when it first was as it should be. A daemon that does not answer yet is looked at again."""
    seen: object = "nothing"
    with trio.move_on_after(seconds):
        while True:
            try:
                seen = found = await look()
            except (ControlUnreachable, httpx.TransportError) as problem:
                seen = problem
            else:
                if is_so(found):
                    return found
            await trio.sleep(LOOK_SECONDS)
    raise AssertionError(f"not within {seconds:g} s: {what}; seen last: {seen}")
