# SPDX-License-Identifier: Apache-2.0
"""Who comes when, who shares an answer, and that nobody waits for one who left."""

import pytest
import trio
import trio.testing

from p2pd.installer.refusal import InstallRefused
from p2pd.installer.turns import MAX_WAITING, Turns
from signing.errors import Expired
from signing.reasons import Reason


class Clerk:
    """Carries out requests when told to, and notes which."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.begun: list[str] = []
        self.answers: list[str | Reason] = []
        self.at_work = 0
        self.go_on = trio.Event()
        self.problem: Exception | None = None

    async def ask(self, request: str, *, product: str = "tool") -> None:
        async def work() -> str:
            self.begun.append(request)
            self.at_work += 1
            try:
                await self.go_on.wait()
            finally:
                self.at_work -= 1
            if self.problem is not None:
                raise self.problem
            return f"{request} {len(self.begun)}"

        try:
            self.answers.append(await self.turns.take(product, request, work))
        except (InstallRefused, Expired) as refusal:
            self.answers.append(refusal.reason)


@pytest.fixture
def clerk() -> Clerk:
    return Clerk()


async def arrive(nursery: trio.Nursery, clerk: Clerk, *requests: str) -> None:
    for request in requests:
        nursery.start_soon(clerk.ask, request)
        await trio.testing.wait_all_tasks_blocked()


async def test_requests_are_carried_out_one_by_one_in_order(clerk: Clerk) -> None:
    async with trio.open_nursery() as nursery:
        await arrive(nursery, clerk, "a", "b", "c")
        assert (clerk.begun, clerk.at_work) == (["a"], 1)
        await clerk_is_asked_elsewhere(nursery, clerk)
        clerk.go_on.set()
    assert clerk.begun == ["a", "other", "b", "c"]
    assert sorted(map(str, clerk.answers)) == ["a 2", "b 3", "c 4", "other 2"]
    await clerk.ask("a")
    assert clerk.begun[-1] == "a", "what is over is not under way"


async def clerk_is_asked_elsewhere(nursery: trio.Nursery, clerk: Clerk) -> None:
    async def ask() -> None:
        await clerk.ask("other", product="other")

    nursery.start_soon(ask)
    await trio.testing.wait_all_tasks_blocked()
    assert clerk.at_work == 2


async def test_a_repeat_gets_the_answer_of_what_is_under_way(clerk: Clerk) -> None:
    async with trio.open_nursery() as nursery:
        await arrive(nursery, clerk, "a", "a", "a", "b")
        clerk.go_on.set()
    assert clerk.begun == ["a", "b"]
    assert clerk.answers == ["a 1", "a 1", "a 1", "b 2"]


async def test_a_repeat_behind_another_request_is_carried_out_after_it(clerk: Clerk) -> None:
    async with trio.open_nursery() as nursery:
        await arrive(nursery, clerk, "install", "rollback", "install")
        clerk.go_on.set()
    assert clerk.begun == ["install", "rollback", "install"]


@pytest.mark.parametrize("problem", [InstallRefused(Reason.STORAGE_FAILED, "no"), Expired("old")])
async def test_a_repeat_is_refused_like_what_was_under_way(clerk: Clerk, problem: InstallRefused | Expired) -> None:
    clerk.problem = problem
    async with trio.open_nursery() as nursery:
        await arrive(nursery, clerk, "a", "a", "a")
        clerk.go_on.set()
    assert clerk.begun == ["a"]
    assert clerk.answers == [problem.reason] * 3


async def test_a_line_that_is_full_is_busy(clerk: Clerk) -> None:
    async with trio.open_nursery() as nursery:
        await arrive(nursery, clerk, *"a" * (1 + MAX_WAITING))
        assert clerk.answers == []
        await clerk.ask("b")
        assert clerk.answers == [Reason.BUSY]
        clerk.go_on.set()
    await clerk.ask("b")
    assert clerk.answers[-1] == "b 2"


async def test_whoever_leaves_holds_nobody_up(clerk: Clerk) -> None:
    async with trio.open_nursery() as nursery:
        scopes = [trio.CancelScope() for _ in "abc"]

        async def ask(request: str, scope: trio.CancelScope) -> None:
            with scope:
                await clerk.ask(request)

        for request, scope in zip("aab", scopes, strict=True):
            nursery.start_soon(ask, request, scope)
            await trio.testing.wait_all_tasks_blocked()
        await arrive(nursery, clerk, "b")
        scopes[2].cancel()  # in the line
        await trio.testing.wait_all_tasks_blocked()
        assert clerk.begun == ["a"]
        scopes[0].cancel()  # at work: its repeat has no answer to share
        await trio.testing.wait_all_tasks_blocked()
        assert (clerk.begun, clerk.at_work) == (["a", "a"], 1)
        clerk.go_on.set()
    assert clerk.answers == ["a 2", "b 3"]
