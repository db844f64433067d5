# SPDX-License-Identifier: Apache-2.0
"""Asks p2pd-install again while it is away: it restarts by itself, and every request may be repeated."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from p2pd.host.backoff import restart_delay
from p2pd.host.telemetry import log
from p2pd.ports import InstallerFailure
from signing.reasons import Reason

T = TypeVar("T")

RETRY_CAP_SECONDS = 30.0

_log = log(__name__)


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """The answer to `call`, however long p2pd-install stays away. Raises InstallerFailure for refusals only."""
    failures = 0
    while True:
        try:
            return await call()
        except InstallerFailure as problem:
            if problem.reason is not Reason.INSTALLER_UNREACHABLE:
                raise
            failures += 1
            tell = _log.warning if failures == 1 else _log.debug
            tell("waiting for p2pd-install", why=str(problem))
        await trio.sleep(restart_delay(failures, cap_seconds=RETRY_CAP_SECONDS))
