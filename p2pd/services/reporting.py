# SPDX-License-Identifier: Apache-2.0
"""Tells the coordinator what became of every release, through a spool on disk that outlives any outage."""

import math
from contextlib import suppress

import trio

from p2pd.host.backoff import restart_delay
from p2pd.host.latest import Latest
from p2pd.host.telemetry import log
from p2pd.host.wall_clock import WallClock
from p2pd.ports_control import Attempt, Coordinator, CoordinatorUnavailable, Refused, Spool, StorageFailed
from p2pd.services.metrics import AgentMetrics
from p2pd.services.site import Identity
from signing.bounds import MAX_TEXT_CHARS
from signing.reasons import Reason
from signing.report import Report

BATCH = 100  # the coordinator takes no more at once
RETRY_BATCH = 10  # after a failure: a proxy may bound the size of requests more tightly
RETRY_CAP_SECONDS = 60.0

_log = log("reporting")


class Reporter:
    """Signs and spools reports, and sends them in order until each is taken or refused for good."""

    def __init__(
        self, spool: Spool, coordinator: Coordinator, clock: WallClock, identity: Identity, metrics: AgentMetrics
    ) -> None:
        self._spool = spool
        self._coordinator = coordinator
        self._clock = clock
        self._identity = identity
        self._metrics = metrics
        self._spooled = Latest(0)
        self._renumbered_from: float = math.inf  # once in a process: what is above is not renumbered again

    async def report(self, attempt: Attempt) -> None:
        """Spool the attempt's present state; it is durable when this returns. Raises StorageFailed when it is not."""
        now = self._clock.unix()

        def numbered(sequence: int) -> Report:
            return Report(
                device=self._identity.device,
                sequence=sequence,
                time=now,
                product=attempt.product,
                version=attempt.version,
                manifest_sha256=attempt.manifest_sha256,
                state=attempt.state,
                reason=attempt.reason,
                detail=attempt.detail[:MAX_TEXT_CHARS],
                previous_version=attempt.previous_version,
                bytes_lan=attempt.bytes_lan,
                bytes_origin=attempt.bytes_origin,
                bytes_web=attempt.bytes_web,
                seconds=attempt.seconds,
            )

        await self._spool.append(numbered)
        self._spooled.set(self._spooled.value + 1)
        with suppress(StorageFailed):  # the report is stored all the same
            self._metrics.spooled_reports.set(await self._spool.count())

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Send whatever is spooled, for ever."""
        task_status.started()
        spooled, failures = self._spooled.watch(), 0
        while True:
            try:
                is_empty = not await self._send_oldest(BATCH if failures == 0 else RETRY_BATCH)
            except (CoordinatorUnavailable, Refused, StorageFailed) as problem:
                failures += 1
                reason = None if isinstance(problem, CoordinatorUnavailable) else problem.reason
                level = _log.info if failures == 1 else _log.debug
                level("reports wait", reason=reason, why=str(problem))
                await trio.sleep(restart_delay(failures, cap_seconds=RETRY_CAP_SECONDS))
            else:
                failures = 0
                if is_empty:
                    await spooled.changed()

    async def _send_oldest(self, most: int) -> bool:
        """Whether there was anything to send."""
        batch = await self._spool.oldest(most)
        self._metrics.spooled_reports.set(await self._spool.count())
        if not batch:
            return False
        verdicts = await self._coordinator.send_reports([envelope for _, envelope in batch])
        for (sequence, _), verdict in zip(batch, verdicts, strict=True):
            if verdict.reason is Reason.SEQUENCE_REUSED and sequence < self._renumbered_from:
                # Whatever follows goes along, also what was accepted: the coordinator believes the highest number.
                self._renumbered_from = await self._spool.renumber(sequence)
                _log.warning("reports renumbered: theirs are used", since=sequence, now=self._renumbered_from)
                return True
            if not verdict.accepted:
                _log.warning("the coordinator refused a report", sequence=sequence, reason=verdict.reason)
            await self._spool.discard(sequence)
        return True
