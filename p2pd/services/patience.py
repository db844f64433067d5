# SPDX-License-Identifier: Apache-2.0
"""Waits for what comes back by itself: p2pd-install that restarts or is busy, a disk that is full for a while."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import trio

from p2pd.decisions.eligibility import Refusal
from p2pd.host.backoff import restart_delay
from p2pd.host.latest import first_of
from p2pd.host.supervise import ServiceFailure
from p2pd.host.telemetry import log
from p2pd.ports import InstallerFailure
from p2pd.services.site import Board
from signing.reasons import Reason

T = TypeVar("T")

RETRY_CAP_SECONDS = 30.0
RETRY_EACH_SECONDS = 0.1  # between tries of all who wait for p2pd-install: thousands of products may
AWAY = frozenset({Reason.INSTALLER_UNREACHABLE, Reason.BUSY})  # busy: with what was asked before the daemon died
DISK_TROUBLE = frozenset({Reason.DISK_FULL, Reason.STORAGE_FAILED})

_log = log(__name__)


async def patiently(board: Board, call: Callable[[], Awaitable[T]], *, passing: frozenset[Reason] = frozenset()) -> T:
    """The answer of p2pd-install to `call`, however long it stays away; every request may be repeated.

    Meanwhile `board.installer_problem` says why. Where others wait already until it can be reached, there is no need to
    find that out again; an answer to any of them wakes all. Raises InstallerFailure for refusals, but not for those in
    `passing`.
    """
    failures = 0
    if board.installer_waiters:
        await _wait_with_others(board, 0.0)
    while True:
        try:
            answer = await call()
        except InstallerFailure as problem:
            if problem.reason not in AWAY | passing:
                raise
            failures += 1
            is_away = problem.reason is Reason.INSTALLER_UNREACHABLE
            tell = _log.warning if failures == 1 else _log.debug
            tell("waiting for p2pd-install", reason=problem.reason, why=str(problem))
            board.installer_problem.set(Refusal(reason=problem.reason, detail=str(problem)))
        else:
            board.installer_problem.set(None)
            return answer
        pause = restart_delay(failures, cap_seconds=RETRY_CAP_SECONDS)
        if is_away:
            await _wait_with_others(board, pause)
        else:
            await trio.sleep(pause)


async def _wait_with_others(board: Board, seconds: float) -> None:
    """Until somebody was answered, or it is our turn to try."""
    board.installer_waiters += 1
    try:
        await first_of(partial(_until_back, board), seconds=max(seconds, RETRY_EACH_SECONDS * board.installer_waiters))
    finally:
        board.installer_waiters -= 1


async def _until_back(board: Board) -> None:
    problem = board.installer_problem.watch()
    while board.installer_problem.value is not None:
        await problem.changed()


async def until_stored(call: Callable[[], Awaitable[None]]) -> None:
    """Write something durably, however long the disk is full or broken: nothing is acted upon before it is written."""
    failures = 0
    while True:
        try:
            return await call()
        except ServiceFailure as problem:
            failures += 1
            tell = _log.error if failures == 1 else _log.debug
            tell("waiting for the disk", why=str(problem))
        await trio.sleep(restart_delay(failures, cap_seconds=RETRY_CAP_SECONDS))
