# SPDX-License-Identifier: Apache-2.0
"""Thousands of products that wait for p2pd-install ask it no more often than one would, and go on together."""

import pytest
import trio
from trio.testing import MockClock

from p2pd.ports import InstallerFailure
from p2pd.services.patience import RETRY_EACH_SECONDS, patiently
from p2pd.services.site import Board
from signing.reasons import Reason

MANY = 500


class FakeInstaller:
    """Counts who asks; away until it is told to be back."""

    def __init__(self) -> None:
        self.asked = 0
        self.problem: Reason | None = Reason.INSTALLER_UNREACHABLE

    def come_back(self) -> None:
        """Answer from now on."""
        self.problem = None

    async def status(self) -> str:
        await trio.lowlevel.checkpoint()
        self.asked += 1
        if self.problem is not None:
            raise InstallerFailure(self.problem, "away")
        return "here"


@pytest.fixture
def installer() -> FakeInstaller:
    return FakeInstaller()


async def test_those_who_wait_share_the_tries(installer: FakeInstaller, autojump_clock: MockClock) -> None:
    board, answers = Board(), list[str]()

    async def ask() -> None:
        answers.append(await patiently(board, installer.status))

    with trio.fail_after(1_000):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(0.5)  # it knows by now
            for _ in range(MANY):
                nursery.start_soon(ask)
            await trio.sleep(60)
            assert installer.asked < 3 * 60 / RETRY_EACH_SECONDS
            problem = board.installer_problem.value
            installer.come_back()
            before = trio.current_time()
    assert answers == ["here"] * (MANY + 1)
    assert trio.current_time() - before < 1, "the first answer wakes all"
    assert problem is not None
    assert board.installer_problem.value is None
    assert board.installer_waiters == 0


async def test_one_alone_asks_less_and_less_often(installer: FakeInstaller, autojump_clock: MockClock) -> None:
    with trio.move_on_after(300):
        await patiently(Board(), installer.status)
    assert 10 <= installer.asked <= 20


async def test_a_refusal_is_everybodys_own(installer: FakeInstaller, autojump_clock: MockClock) -> None:
    board = Board()
    installer.problem = Reason.INSTALL_FAILED
    with pytest.raises(InstallerFailure):
        await patiently(board, installer.status)
    assert board.installer_waiters == 0
    installer.problem = Reason.BUSY  # with something of this product: others need not wait for that
    with trio.move_on_after(10):
        await patiently(board, installer.status)
    assert board.installer_waiters == 0
