# SPDX-License-Identifier: Apache-2.0
"""Tells the coordinator what became of every release, through a spool on disk that outlives any outage.

How an attempt ends, and that it goes back, is durable before anything else happens, and told for certain. Of the
states on the way only the newest is told, GATHER_SECONDS after the first, and one of thousands of products
PASSING_SECONDS after the one before: products that pass through six states each cost a report or two, a small release
none before it is on probation, and while the coordinator is away they take no room in the spool. A crash may lose such
a state; the attempt is then resumed, or judged anew, and says where it stands.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice

import trio

from p2pd.host.backoff import restart_delay
from p2pd.host.latest import Latest, first_of
from p2pd.host.telemetry import log
from p2pd.host.wall_clock import WallClock
from p2pd.ports_control import Attempt, Coordinator, CoordinatorUnavailable, Refused, Spool, StorageFailed
from p2pd.services.metrics import AgentMetrics
from p2pd.services.site import Identity
from signing.bounds import MAX_TEXT_CHARS
from signing.reasons import Reason
from signing.report import InstallState, Measured, Report

BATCH = 100  # the coordinator takes no more at once
RETRY_BATCH = 10  # after a failure: a proxy may bound the size of requests more tightly
RETRY_CAP_SECONDS = 60.0
GATHER_SECONDS = 1.0  # between requests that are not full; an end after a silence goes at once
PASSING_SECONDS = 0.04  # for each state on the way that is told; an end waits for none of them

_log = log("reporting")


@dataclass(frozen=True, kw_only=True)
class _Told:
    """What is to be told of an attempt. `time` is when it was so, in Unix seconds."""

    attempt: Attempt
    time: int
    measured: Measured | None

    def report(self, device: str, sequence: int) -> Report:
        """Under that number."""
        attempt = self.attempt
        return Report(
            device=device,
            sequence=sequence,
            time=self.time,
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
            measured=self.measured,
        )


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
        self._passing: dict[str, _Told] = {}  # by manifest: states that others will follow, not spooled yet
        self._news = Latest(0)
        self._ends = Latest(0)
        self._sent_at = -math.inf
        self._passing_from = -math.inf  # when states on the way may be told again
        self._renumbered_from: float = math.inf  # once in a process: what is above is not renumbered again

    async def report(self, attempt: Attempt) -> None:
        """Tell the attempt's present state. One that ends it, or undoes it, is durable when this returns.

        Raises StorageFailed when it is not.
        """
        before = self._passing.get(attempt.manifest_sha256)
        told = _Told(attempt=attempt, time=self._clock.unix(), measured=_measured(attempt, before))
        if _is_passing(attempt.state):
            self._passing[attempt.manifest_sha256] = told
        else:
            await self._store_end(told)
            self._ends.set(self._ends.value + 1)
        self._news.set(self._news.value + 1)
        with suppress(StorageFailed):  # the report is stored all the same
            await self._count()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Send whatever is to be told, for ever."""
        task_status.started()
        news, ends, failures = self._news.watch(), self._ends.watch(), 0
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
                if is_empty and self._passing:
                    await first_of(ends.changed, seconds=max(0.0, self._passing_from - trio.current_time()))
                elif is_empty:
                    await news.changed()

    async def _send_oldest(self, most: int) -> bool:
        """Whether there was anything to send."""
        await self._count()
        if 0 < await self._spool.count() + (len(self._passing) if self._may_pass else 0) < most:
            await self._gather()
        batch = await self._spool.oldest(most)
        if len(batch) < most and self._passing and self._may_pass:
            await self._spool_passing(most - len(batch))
            batch = await self._spool.oldest(most)
        if not batch:
            return False
        self._sent_at = trio.current_time()
        verdicts = await self._coordinator.send_reports([envelope for _, envelope in batch])
        done: list[int] = []
        for (sequence, _), verdict in zip(batch, verdicts, strict=True):
            if verdict.reason is Reason.SEQUENCE_REUSED and sequence < self._renumbered_from:
                await self._spool.discard(*done)
                # Whatever follows goes along, also what was accepted: the coordinator believes the highest number.
                self._renumbered_from = await self._spool.renumber(sequence)
                _log.warning("reports renumbered: theirs are used", since=sequence, now=self._renumbered_from)
                return True
            if not verdict.accepted:
                _log.warning("the coordinator refused a report", sequence=sequence, reason=verdict.reason)
            done.append(sequence)
        await self._spool.discard(*done)
        await self._count()
        return True

    @property
    def _may_pass(self) -> bool:
        return trio.current_time() >= self._passing_from

    async def _gather(self) -> None:
        """Wait for what may come to be told along with, or in place of, what is waiting."""
        ends = self._ends.watch()
        if await self._spool.count() == 0:
            await first_of(ends.changed, seconds=GATHER_SECONDS)
        await trio.sleep_until(self._sent_at + GATHER_SECONDS)

    async def _store_end(self, told: _Told) -> None:
        """What was to be told before it is outdated, and must not get a higher number."""
        outdated = self._passing.pop(told.attempt.manifest_sha256, None)
        try:
            await self._spool.append(self._numbered(told))
        except StorageFailed:
            if outdated is not None:
                self._passing.setdefault(told.attempt.manifest_sha256, outdated)
            raise

    async def _spool_passing(self, most: int) -> None:
        """Under the numbers that they are sent with: none may be used twice. What is newer meanwhile stays."""
        chosen = dict(islice(self._passing.items(), most))
        # Gathering follows: a handful waits for that alone.
        self._passing_from = trio.current_time() + PASSING_SECONDS * len(chosen) - GATHER_SECONDS
        await self._spool.append(*map(self._numbered, chosen.values()))
        for manifest, told in chosen.items():
            if self._passing.get(manifest) is told:
                del self._passing[manifest]

    def _numbered(self, told: _Told) -> Callable[[int], Report]:
        return partial(told.report, self._identity.device)

    async def _count(self) -> int:
        waiting = await self._spool.count() + len(self._passing)
        self._metrics.spooled_reports.set(waiting)
        return waiting


def _is_passing(state: InstallState) -> bool:
    """Whether the state is of interest only as long as no other follows: it decides nothing about a rollout."""
    return not (state.is_final or state is InstallState.ROLLING_BACK)


def _measured(attempt: Attempt, before: _Told | None) -> Measured | None:
    """What the transfer showed is told once: with the state that it ends in, or with the one that is told instead."""
    if attempt.state is InstallState.STAGED:
        return attempt.measured
    return before.measured if before is not None else None
