# SPDX-License-Identifier: Apache-2.0
"""Restart what the world broke; crash on our own bugs."""

from collections.abc import Awaitable, Callable
from math import inf
from typing import Any

import trio
from prometheus_client import Counter

from p2pd.host import backoff
from p2pd.host.telemetry import log

_log = log(__name__)

RESTARTS = Counter(
    "p2pd_service_restarts_total", "Times that a service was started again after a failure of the world.", ["service"]
)


class ServiceFailure(Exception):
    """The world misbehaved and a restart may help. A bug is never a ServiceFailure."""


async def keep_running(
    service: Callable[..., Awaitable[object]],
    *,
    name: str,
    restart_delay: Callable[[int], float] = backoff.restart_delay,
    healthy_after: float = 60.0,
    task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run `service`, and run it again whenever it raises ServiceFailure; return when it returns.

    `service` takes a `task_status`; what it reports there the first time is reported on. `restart_delay` gives
    seconds from the number of consecutive failures, which starts over once it was ready for `healthy_after` seconds.
    Any other exception leaves, and takes the daemon down for the init system to restart.
    """
    failures, announced, last_complaint = 0, False, ""
    while True:
        ready_at, complaint = inf, ""
        try:
            async with trio.open_nursery() as nursery:
                value = await nursery.start(service)
                ready_at = trio.current_time()
                if not announced:
                    task_status.started(value)
                    announced = True
        except* ServiceFailure as group:
            complaint = "; ".join(_sentences(group))
        else:
            return
        # A failure on the way out is not worth a word: nothing is going to be restarted.
        await trio.lowlevel.checkpoint_if_cancelled()
        if trio.current_time() - ready_at >= healthy_after:
            failures, last_complaint = 0, ""
        failures += 1
        seconds = restart_delay(failures)
        # The same failure over and over is told once; a different one, or one after good health, is news.
        tell = _log.debug if complaint == last_complaint else _log.warning
        tell("service failed, will restart", service=name, problem=complaint, failures=failures, seconds=seconds)
        last_complaint = complaint
        await trio.sleep(seconds)
        RESTARTS.labels(service=name).inc()


def _sentences(group: BaseExceptionGroup[ServiceFailure]) -> list[str]:
    found: list[str] = []
    for failure in group.exceptions:
        if isinstance(failure, BaseExceptionGroup):
            found += _sentences(failure)
        else:
            found.append(f"{type(failure).__name__}: {failure}")
    return found
