# SPDX-License-Identifier: Apache-2.0
"""A store, a worker and metrics for services, without a fleet around them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pd.host.wall_clock import WallClock
from seeds.adapters.metrics import CoordinatorMetrics
from seeds.adapters.store import Store
from seeds.services.worker import Worker

NOW = 1_800_000_000


class SetClock(WallClock):
    """Shows what the test sets."""

    def __init__(self) -> None:
        self.time = float(NOW)
        super().__init__(lambda: self.time)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
def metrics(clock: SetClock) -> CoordinatorMetrics:
    return CoordinatorMetrics(lambda: clock.time)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "coordinator.sqlite") as opened:
        yield opened
