# SPDX-License-Identifier: Apache-2.0
"""Blocking calls without a thread, for a clock that takes busy threads for idle ones."""

from collections.abc import Callable
from typing import Any, TypeVar

import trio

T = TypeVar("T")


async def in_place(sync_fn: Callable[..., T], *args: Any) -> T:
    """Implements `p2pd.ports_control.RunSync`. Like a thread, it either is cancelled before it begins, or finishes."""
    await trio.lowlevel.checkpoint()
    return sync_fn(*args)
