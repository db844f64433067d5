# SPDX-License-Identifier: Apache-2.0
"""Health tells the truth about database, metadata and disk, without telling where they are."""

from collections.abc import Callable
from pathlib import Path

import pytest

from seeds.adapters.store import Store
from seeds.fleet import Fleet
from seeds.services import health as health_module
from seeds.services.health import HealthProbe
from seeds.services.worker import Worker
from signing.repository import Repository
from tests.seeds.services.conftest import SetClock

Probe = Callable[[], HealthProbe]


@pytest.fixture
def probe(fleet: Fleet, store: Store, worker: Worker, clock: SetClock) -> Probe:
    repository = Repository(fleet.repository)
    clock.time = repository.expiries()["timestamp"].timestamp() - 60

    def make() -> HealthProbe:
        return HealthProbe(store=store, repository=repository, directory=fleet.directory, worker=worker, clock=clock)

    return make


async def test_all_is_well(probe: Probe) -> None:
    found = await probe().check()
    assert found.healthy
    assert dict(found.facts) == {"database": "ok", "metadata": "ok", "expired_roles": [], "disk": "ok"}


async def test_expired_metadata_is_named_by_role(probe: Probe, clock: SetClock) -> None:
    clock.time += 61
    found = await probe().check()
    assert not found.healthy
    assert (found.facts["metadata"], found.facts["expired_roles"]) == ("expired", ["schedules", "timestamp"])


async def test_a_database_that_is_gone_is_seen(probe: Probe, store: Store, tmp_path: Path) -> None:
    store.close()
    (tmp_path / "coordinator.sqlite").unlink()
    (tmp_path / "coordinator.sqlite").mkdir()
    found = await probe().check()
    assert (found.healthy, found.facts["database"]) == (False, "unavailable")


async def test_a_repository_that_is_gone_is_seen(probe: Probe, fleet: Fleet) -> None:
    made = probe()
    fleet.repository.rename(fleet.directory / "moved")
    found = await made.check()
    assert (found.healthy, found.facts["metadata"]) == (False, "unreadable")
    assert str(fleet.directory) not in str(found.facts)


async def test_a_full_disk_is_seen(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_module, "MIN_FREE_BYTES", 2**62)
    found = await probe().check()
    assert (found.healthy, found.facts["disk"]) == (False, "full")


async def test_curiosity_does_not_cost_more_than_a_look_a_second(
    probe: Probe, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_module, "FRESH_SECONDS", 1e9)
    made = probe()
    first = await made.check()
    clock.time += 61
    assert await made.check() is first
