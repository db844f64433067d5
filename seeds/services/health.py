# SPDX-License-Identifier: Apache-2.0
"""Can the coordinator do its work? The database answers, the metadata is alive, the disk has room."""

import shutil
from datetime import datetime
from pathlib import Path

import trio

from p2pd.host.telemetry import log
from p2pd.host.wall_clock import WallClock
from seeds.adapters.store import Store, StoreUnavailable
from seeds.ports import Health
from seeds.services.worker import Worker
from signing.errors import SigningError
from signing.repository import Repository

MIN_FREE_BYTES = 64 * 2**20  # room for metadata and reports of hours; releases are checked when they are published
FRESH_SECONDS = 1.0  # anyone may ask: whoever asks more often gets the last answer again

_log = log(__name__)


class HealthProbe:
    """Implements `seeds.ports.HealthCheck`."""

    def __init__(
        self, *, store: Store, repository: Repository, directory: Path, worker: Worker, clock: WallClock
    ) -> None:
        self._store = store
        self._repository = repository
        self._directory = directory
        self._worker = worker
        self._clock = clock
        self._looking = trio.Lock()
        self._last: tuple[float, Health] | None = None

    async def check(self) -> Health:
        """Look, or repeat what was seen within the last second."""
        async with self._looking:
            if self._last is None or trio.current_time() - self._last[0] >= FRESH_SECONDS:
                found = await self._worker.run(self._look)
                self._last = (trio.current_time(), found)
            return self._last[1]

    def _look(self) -> Health:
        database, metadata, free = self._database(), self._expired(self._clock.now()), self._free_bytes()
        facts = {
            "database": "ok" if database else "unavailable",
            "metadata": "ok" if metadata == [] else "unreadable" if metadata is None else "expired",
            "expired_roles": metadata or [],
            "disk": "ok" if free >= MIN_FREE_BYTES else "full",
        }
        return Health(healthy=database and metadata == [] and free >= MIN_FREE_BYTES, facts=facts)

    def _database(self) -> bool:
        try:
            with self._store.reading() as transaction:
                transaction.count_site("")
        except StoreUnavailable as problem:
            _log.error("database unavailable", problem=str(problem))
            return False
        return True

    def _expired(self, now: datetime) -> list[str] | None:
        try:
            return sorted(role for role, expires in self._repository.expiries().items() if expires <= now)
        except (SigningError, OSError) as problem:
            _log.error("metadata unreadable", problem=str(problem))
            return None

    def _free_bytes(self) -> int:
        try:
            return shutil.disk_usage(self._directory).free
        except OSError:
            return 0
