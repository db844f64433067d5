# SPDX-License-Identifier: Apache-2.0
"""The newest value of something, for many readers: a slow reader sees the newest and skips what lay between."""

import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Generic, TypeVar

import trio

T = TypeVar("T")
K = TypeVar("K")


class Latest(Generic[T]):
    """A cell that one service sets and others watch. Setting an equal value wakes nobody."""

    def __init__(self, value: T) -> None:
        self._value = value
        self._version = 0
        self._changed = trio.Event()

    @property
    def value(self) -> T:
        """What was set last."""
        return self._value

    def set(self, value: T) -> None:
        """Replace the value and wake the watchers, unless it is equal."""
        if value == self._value:
            return
        self._value = value
        self._wake()

    def _wake(self) -> None:
        self._version += 1
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    @property
    def version(self) -> int:
        """Grows by one with every change."""
        return self._version

    async def newer_than(self, version: int) -> int:
        """Wait until `version` is outdated; the version then."""
        while self._version == version:
            await self._changed.wait()
        return self._version

    def watch(self) -> "Watch[T]":
        """A reader's own place; its first `changed` waits for a value set after now."""
        return Watch(self)


class LatestEntries(Latest[Mapping[K, T]]):
    """A table whose entries change one by one: each costs the same however many there are.

    `value` shows the table as it is now, not as it was when it was asked for.
    """

    def __init__(self) -> None:
        self._entries: dict[K, T] = {}
        super().__init__(self._entries)

    def set(self, value: Mapping[K, T]) -> None:
        """Replace all entries, unless they are equal."""
        if value != self._entries:
            self._entries = dict(value)
            super().set(self._entries)

    def put(self, key: K, entry: T) -> None:
        """Replace one entry, unless it is equal."""
        if self._entries.get(key) != entry:
            self._entries[key] = entry
            self._wake()


class Watch(Generic[T]):
    """One reader of a Latest. No change is missed between two calls of `changed`."""

    def __init__(self, cell: Latest[T]) -> None:
        self._cell = cell
        self._seen = cell.version

    async def changed(self) -> None:
        """Return once the cell holds something newer than at the last return."""
        self._seen = await self._cell.newer_than(self._seen)


async def first_of(*waits: Callable[[], Awaitable[object]], seconds: float = math.inf) -> bool:
    """Wait until one of `waits` returns, cancelling the others, or `seconds` pass. False: time was up.

    For waits that change nothing when cancelled, such as `Watch.changed`.
    """
    finished = False

    async def run(wait: Callable[[], Awaitable[object]], scope: trio.CancelScope) -> None:
        nonlocal finished
        await wait()
        finished = True
        scope.cancel()

    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for wait in waits:
                nursery.start_soon(run, wait, nursery.cancel_scope)
    return finished
