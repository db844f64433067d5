# SPDX-License-Identifier: Apache-2.0
"""Many who wait for one write: each is told of its own, nobody is forgotten, and none is written twice."""

import errno
from collections.abc import Sequence

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from p2pd.host.group_commit import GroupCommit


class Disk:
    """Writes when the test says so."""

    def __init__(self) -> None:
        self.writes: list[list[str]] = []
        self.may_write = trio.Event()

    async def write(self, items: Sequence[str]) -> list[OSError | None]:
        await self.may_write.wait()
        self.writes.append(list(items))
        return [OSError(errno.ENOSPC, "full") if item.startswith("bad") else None for item in items]


async def test_what_comes_during_a_write_shares_the_next() -> None:
    disk = Disk()
    commit = GroupCommit(disk.write, most=3)
    async with trio.open_nursery() as nursery:
        for name in "abcdef":
            nursery.start_soon(commit.put, name)
            await wait_all_tasks_blocked()
        disk.may_write.set()
    assert disk.writes == [["a"], ["b", "c", "d"], ["e", "f"]]


async def test_each_is_told_of_its_own_failure() -> None:
    disk = Disk()
    commit = GroupCommit(disk.write, most=9)
    failed: dict[str, int | None] = {}

    async def put(name: str) -> None:
        try:
            await commit.put(name)
        except OSError as problem:
            failed[name] = problem.errno

    async with trio.open_nursery() as nursery:
        for name in ("good", "bad 1", "fine", "bad 2"):
            nursery.start_soon(put, name)
        disk.may_write.set()
    assert failed == {"bad 1": errno.ENOSPC, "bad 2": errno.ENOSPC}


@pytest.mark.parametrize("cancelled", ["a", "b"])
async def test_whoever_gives_up_takes_nobody_along(cancelled: str) -> None:
    """Also when it was its turn to write for the others."""
    disk = Disk()
    commit = GroupCommit(disk.write, most=9)
    scopes = {name: trio.CancelScope() for name in "abc"}

    async def put(name: str) -> None:
        with scopes[name]:
            await commit.put(name)

    async with trio.open_nursery() as nursery:
        for name in "abc":
            nursery.start_soon(put, name)
            await wait_all_tasks_blocked()
        scopes[cancelled].cancel()
        await wait_all_tasks_blocked()
        disk.may_write.set()
    assert sorted(item for write in disk.writes for item in write) == sorted(set("abc") - {cancelled})
