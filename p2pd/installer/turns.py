# SPDX-License-Identifier: Apache-2.0
"""Whose turn it is: requests for one product are carried out one at a time, in the order of their arrival.

A daemon that was restarted asks again for what is under way for it already. Such a repeat is not carried out twice: it
waits in line like any other request, and is answered like the equal one before it.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import trio

from p2pd.installer.refusal import InstallRefused
from signing.errors import SigningError
from signing.reasons import Reason

MAX_WAITING = 4  # per product: each holds one of the socket's connections, of which `status` needs one as well

T = TypeVar("T")


@dataclass(eq=False, kw_only=True)
class _Turn:
    """One request in line. `is_over` only when it was carried out: not when whoever asked was cancelled."""

    request: object
    before: "_Turn | None"
    has_come: trio.Event = field(default_factory=trio.Event)
    is_over: bool = False
    answer: Any = None
    refusal: InstallRefused | SigningError | None = None


class Turns:
    """One line for every product that something is asked of."""

    def __init__(self) -> None:
        self._lines: dict[str, list[_Turn]] = {}

    async def take(self, product: str, request: object, work: Callable[[], Awaitable[T]]) -> T:
        """Wait in line, then return what `work` returns, or what it returned for an equal request just before.

        `request` tells everything that `work` depends on. Raises InstallRefused (busy) when the line is full.
        """
        line = self._lines.setdefault(product, [])
        if len(line) > MAX_WAITING:
            raise InstallRefused(Reason.BUSY, f"{product}: {MAX_WAITING} requests wait already; ask again later")
        turn = _Turn(request=request, before=line[-1] if line else None)
        line.append(turn)
        try:
            if turn.before is not None:
                await turn.has_come.wait()
            await _carry_out(turn, work)
        finally:
            self._leave(product, turn)
        if turn.refusal is not None:  # that of another request: an exception is raised by one task only
            raise InstallRefused(turn.refusal.reason, str(turn.refusal)) from turn.refusal
        answer: T = turn.answer
        return answer

    def _leave(self, product: str, turn: _Turn) -> None:
        line = self._lines[product]
        was_first = line[0] is turn
        line.remove(turn)
        if not line:
            del self._lines[product]
        elif was_first:
            line[0].has_come.set()


async def _carry_out(turn: _Turn, work: Callable[[], Awaitable[Any]]) -> None:
    before, turn.before = turn.before, None
    if before is not None and before.is_over and before.request == turn.request:
        turn.answer, turn.refusal, turn.is_over = before.answer, before.refusal, True
        return
    try:
        turn.answer = await work()
    except (InstallRefused, SigningError) as refusal:
        turn.refusal, turn.is_over = refusal, True
        raise
    turn.is_over = True
