# SPDX-License-Identifier: Apache-2.0
"""Tells the coordinator what became of every release, through a spool on disk that outlives any outage."""

import trio

from p2pd.host.backoff import restart_delay
from p2pd.host.latest import Latest
from p2pd.host.telemetry import log
from p2pd.host.wall_clock import WallClock
from p2pd.ports_control import Attempt, Coordinator, CoordinatorUnavailable, Refused, Spool
from p2pd.services.metrics import AgentMetrics
from p2pd.services.site import Identity
from signing.bounds import MAX_TEXT_CHARS
from signing.report import Report

BATCH = 100  # the coordinator takes no more at once
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

    async def report(self, attempt: Attempt) -> None:
        """Spool the attempt's present state; it is durable when this returns."""
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
        self._metrics.spooled_reports.set(await self._spool.count())
        self._spooled.set(self._spooled.value + 1)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Send whatever is spooled, for ever."""
        task_status.started()
        spooled, failures = self._spooled.watch(), 0
        while True:
            batch = await self._spool.oldest(BATCH)
            self._metrics.spooled_reports.set(await self._spool.count())
            if not batch:
                await spooled.changed()
                continue
            try:
                await self._send(batch)
            except (CoordinatorUnavailable, Refused) as problem:  # refused: all of it, so by something on the way
                failures += 1
                level = _log.info if failures == 1 else _log.debug
                level("reports wait for the coordinator", spooled=len(batch), why=str(problem))
                await trio.sleep(restart_delay(failures, cap_seconds=RETRY_CAP_SECONDS))
            else:
                failures = 0

    async def _send(self, batch: tuple[tuple[int, bytes], ...]) -> None:
        verdicts = await self._coordinator.send_reports([envelope for _, envelope in batch])
        for (sequence, _), verdict in zip(batch, verdicts, strict=True):
            if not verdict.accepted:
                _log.warning("the coordinator refused a report", sequence=sequence, reason=verdict.reason)
            await self._spool.discard(sequence)
