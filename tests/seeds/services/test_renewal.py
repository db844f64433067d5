# SPDX-License-Identifier: Apache-2.0
"""Online metadata never lapses while the coordinator runs, and the alarm about the rest goes off once a mark."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio

from seeds.adapters.metrics import CoordinatorMetrics
from seeds.fleet import Fleet
from seeds.services.changes import Changes
from seeds.services.renewal import OnlineRenewal, RenewalStalled
from seeds.services.worker import Worker
from seeds.signers import open_online_keys
from signing.repository import Repository
from tests.seeds.fleet_kit import ONLINE
from tests.seeds.services.conftest import SetClock

DAY = timedelta(days=1).total_seconds()


class Scene:
    """The renewal of a real repository, at a time that the test sets."""

    def __init__(self, fleet: Fleet, worker: Worker, clock: SetClock, metrics: CoordinatorMetrics) -> None:
        self.clock = clock
        self.metrics = metrics
        self.repository = Repository(fleet.repository)
        self.born = self.repository.expiries()["timestamp"].timestamp() - DAY
        clock.time = self.born
        self.changes = Changes(self.repository.timestamp_version())
        self.renewal = OnlineRenewal(
            repository=self.repository,
            keys=open_online_keys(fleet, self.repository, ONLINE),
            worker=worker,
            changes=self.changes,
            clock=clock,
            metrics=metrics,
        )

    async def look(self) -> None:
        """One round of the loop."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.renewal.run)
            nursery.cancel_scope.cancel()

    def seconds_left(self, role: str) -> float | None:
        return self.metrics.registry.get_sample_value("seeds_metadata_expiry_seconds", {"role": role})


@pytest.fixture
def scene(fleet: Fleet, worker: Worker, clock: SetClock, metrics: CoordinatorMetrics) -> Scene:
    return Scene(fleet, worker, clock, metrics)


async def test_fresh_metadata_is_left_alone(scene: Scene) -> None:
    version = scene.repository.timestamp_version()
    await scene.look()
    assert scene.repository.timestamp_version() == version
    assert scene.seconds_left("timestamp") == pytest.approx(DAY, abs=1)
    assert scene.seconds_left("root") == pytest.approx(365 * DAY, abs=1)


async def test_half_way_through_its_life_it_is_signed_again_and_told(scene: Scene) -> None:
    version = scene.changes.version
    scene.clock.time += DAY / 2 + 60
    await scene.look()
    assert scene.changes.version == version + 1
    assert scene.seconds_left("timestamp") == pytest.approx(DAY, abs=1)
    assert scene.seconds_left("schedules") == pytest.approx(DAY, abs=1)


async def test_offline_roles_raise_the_alarm_once_at_each_mark(scene: Scene) -> None:
    async def alarms_at(day: float) -> list[tuple[Any, Any]]:
        scene.clock.time = scene.born + day * DAY
        with structlog.testing.capture_logs() as logs:
            await scene.look()
            await scene.look()
        return [(entry["role"], entry["percent_left_at_most"]) for entry in logs if "percent_left_at_most" in entry]

    # `patches` lives 180 days, the other offline roles 365.
    assert await alarms_at(89) == []
    assert await alarms_at(91) == [("patches", 50)]
    assert await alarms_at(140) == [("patches", 25)]
    assert await alarms_at(170) == [("patches", 10)]
    others = {(role, 50) for role in ("root", "targets", "policies", "recalls")}
    assert set(await alarms_at(184)) == {("patches", 0), *others}


async def test_a_repository_that_cannot_be_written_is_an_outage(scene: Scene, fleet: Fleet, tmp_path: Path) -> None:
    fleet.repository.rename(tmp_path / "elsewhere")
    with pytest.raises(BaseExceptionGroup) as caught:
        await scene.look()
    assert caught.group_contains(RenewalStalled)
