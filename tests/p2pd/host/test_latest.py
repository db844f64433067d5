# SPDX-License-Identifier: Apache-2.0
"""Tables of newest values: readers are woken by changes, and only by those."""

import trio
from trio.testing import wait_all_tasks_blocked

from p2pd.host.latest import LatestEntries


async def test_an_entry_that_changes_wakes_a_reader() -> None:
    table, woken = LatestEntries[str, int](), list[dict[str, int]]()

    async def read() -> None:
        watch = table.watch()
        while True:
            await watch.changed()
            woken.append(dict(table.value))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        table.put("a", 1)
        await wait_all_tasks_blocked()
        table.put("a", 1)
        await wait_all_tasks_blocked()
        table.put("b", 2)
        await wait_all_tasks_blocked()
        table.set({"a": 1, "b": 2})
        await wait_all_tasks_blocked()
        table.set({"b": 3})
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert woken == [{"a": 1}, {"a": 1, "b": 2}, {"b": 3}]


async def test_what_was_handed_in_stays_its_owners() -> None:
    table, given = LatestEntries[str, int](), {"a": 1}
    table.set(given)
    table.put("b", 2)
    assert given == {"a": 1}
    assert table.value == {"a": 1, "b": 2}
    given["a"] = 9
    assert table.value == {"a": 1, "b": 2}
