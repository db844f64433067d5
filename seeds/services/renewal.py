# SPDX-License-Identifier: Apache-2.0
"""Keeps the online metadata from lapsing, and raises the alarm well before any other does."""

from datetime import datetime

import trio

from p2pd.host.supervise import ServiceFailure
from p2pd.host.telemetry import log
from p2pd.host.wall_clock import WallClock
from seeds.adapters.metrics import CoordinatorMetrics
from seeds.decisions.expiry_alarm import alarm_percent
from seeds.services.changes import Changes
from seeds.services.online_keys import OnlineKeys
from seeds.services.worker import Worker
from signing.errors import SigningError
from signing.repository import Repository
from signing.roles import ROLES

CHECK_SECONDS = 60.0  # far less than half of a day, the shortest life of any role

_log = log(__name__)


class RenewalStalled(ServiceFailure):
    """Online metadata could not be renewed; it stays valid for as long as it was signed for."""


class OnlineRenewal:
    """Looks at the expiry of all roles, again and again."""

    def __init__(
        self,
        *,
        repository: Repository,
        keys: OnlineKeys,
        worker: Worker,
        changes: Changes,
        clock: WallClock,
        metrics: CoordinatorMetrics,
        check_seconds: float = CHECK_SECONDS,
    ) -> None:
        self._repository = repository
        self._keys = keys
        self._worker = worker
        self._changes = changes
        self._clock = clock
        self._metrics = metrics
        self._check_seconds = check_seconds
        self._told: dict[str, int] = {}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Renew and watch until cancelled; ready after the first look. Raises RenewalStalled."""
        is_ready = False
        while True:
            version, expiries = await self._worker.run(self._renew)
            self._changes.announce(version)
            self._metrics.show_expiries({role: expires.timestamp() for role, expires in expiries.items()})
            self._warn(expiries)
            if not is_ready:
                task_status.started()
                is_ready = True
            await trio.sleep(self._check_seconds)

    def _renew(self) -> tuple[int, dict[str, datetime]]:
        try:
            renewed = self._keys.renew(self._repository, now=self._clock.now())
            if renewed:
                _log.info("online metadata renewed", roles=renewed)
            return self._repository.timestamp_version(), self._repository.expiries()
        except (SigningError, OSError) as problem:
            raise RenewalStalled(f"{type(problem).__name__}: {problem}") from problem

    def _warn(self, expiries: dict[str, datetime]) -> None:
        now = self._clock.now()
        for role, expires in expiries.items():
            lifetime = ROLES[role].lifetime if role in ROLES else None
            mark = None if lifetime is None else alarm_percent(expires, lifetime, now)
            if mark is None:
                self._told.pop(role, None)
            elif self._told.get(role) != mark:
                self._told[role] = mark
                tell = _log.error if mark <= 10 else _log.warning
                tell("signed metadata runs out", role=role, expires=expires.isoformat(), percent_left_at_most=mark)
