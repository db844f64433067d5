# SPDX-License-Identifier: Apache-2.0
"""One write to the disk for all who wait for one: what comes while a write is under way shares the next.

So a thousand products that change at once cost a handful of turns in a thread and of flushed directories, while each
of them still returns only when its own is durable. Nothing waits for company: alone, a write begins at once.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import trio

T = TypeVar("T")


class _Ticket(Generic[T]):
    """What somebody waits for. `failure` counts once `is_over`."""

    def __init__(self, item: T) -> None:
        self.item = item
        self.is_over = False
        self.failure: OSError | None = None


class GroupCommit(Generic[T]):
    """`write` stores up to `most` items at once, in their order, and says for each what went wrong, if anything did."""

    def __init__(self, write: Callable[[Sequence[T]], Awaitable[Sequence[OSError | None]]], *, most: int) -> None:
        self._write = write
        self._most = most
        self._turn = trio.Lock()  # served in order of arrival, so that whoever has it waits longest
        self._waiting: list[_Ticket[T]] = []

    async def put(self, item: T) -> None:
        """Return when `item` is stored. Raises the OSError that says why it is not."""
        ticket = _Ticket(item)
        self._waiting.append(ticket)
        try:
            async with self._turn:
                if not ticket.is_over:
                    await self._write_oldest(ticket)
        finally:
            if ticket in self._waiting:  # cancelled
                self._waiting.remove(ticket)
        if ticket.failure is not None:
            raise OSError(*ticket.failure.args) from ticket.failure  # one for each: tracebacks grow when raised again

    async def _write_oldest(self, own: _Ticket[T]) -> None:
        batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
        try:
            failures = await self._write([ticket.item for ticket in batch])
        except BaseException:  # cancelled before it began: the others' turn is yet to come
            self._waiting[:0] = [ticket for ticket in batch if ticket is not own]
            raise
        for ticket, failure in zip(batch, failures, strict=True):
            ticket.is_over, ticket.failure = True, failure
