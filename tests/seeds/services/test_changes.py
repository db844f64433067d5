# SPDX-License-Identifier: Apache-2.0
"""Whoever waits for a newer version is woken once, by a newer version."""

import trio
from trio.testing import wait_all_tasks_blocked

from seeds.services.changes import Changes


async def test_waiters_are_woken_by_a_newer_version_only(nursery: trio.Nursery) -> None:
    changes, woken = Changes(5), []

    async def wait(version: int) -> None:
        woken.append((version, await changes.newer_than(version)))

    for version in (4, 5, 7):
        nursery.start_soon(wait, version)
    await wait_all_tasks_blocked()
    assert woken == [(4, 5)]
    changes.announce(3)
    assert changes.version == 5
    changes.announce(7)
    await wait_all_tasks_blocked()
    assert woken == [(4, 5), (5, 7)]
    changes.announce(8)
    await wait_all_tasks_blocked()
    assert woken[-1] == (7, 8)


async def test_nobody_waits_beyond_the_end(nursery: trio.Nursery) -> None:
    changes, woken = Changes(5), []

    async def wait() -> None:
        woken.append(await changes.newer_than(5))

    nursery.start_soon(wait)
    async with trio.open_nursery() as ending:
        await ending.start(changes.close_when_cancelled)
        await wait_all_tasks_blocked()
        assert woken == []
        ending.cancel_scope.cancel()
    await wait_all_tasks_blocked()
    assert woken == [5]
    assert await changes.newer_than(9) == 5
