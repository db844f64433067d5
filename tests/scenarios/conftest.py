# SPDX-License-Identifier: Apache-2.0
"""A fleet made once per run and copied for each test, on a clock that never waits, without threads or chance."""

import os
import random
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NoReturn

import pytest
import trio
from trio.testing import MockClock

from seeds.new_fleet import FleetPlan, create_fleet
from signing import encrypted_pkcs8
from tests.fakes.frozen_clock import START
from tests.simulator.administrator import OFFLINE, ONLINE, SEGMENT
from tests.simulator.world import World, open_world

CANARY_SOAK_SECONDS = 300.0


@pytest.fixture(scope="session")
def fleet_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One segment, one drafted canary, and keys whose derivation is cheap."""
    directory = tmp_path_factory.mktemp("scenarios") / "fleet"
    plan = FleetPlan(
        names=("origin.test",), segments=(SEGMENT,), canary_percent=0, canary_soak_seconds=CANARY_SOAK_SECONDS
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encrypted_pkcs8, "_SCRYPT_N", 2)
        create_fleet(directory, plan, offline_passphrase=OFFLINE, online_passphrase=ONLINE, now=START)
    return directory


@pytest.fixture
def jumping_clock(monkeypatch: pytest.MonkeyPatch) -> MockClock:
    """Virtual time that jumps to the next deadline as soon as every task waits."""

    async def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("a thread looks idle to this clock: inject tests.simulator.in_place instead")

    # What trio draws lots for, what spreads load, and the disk's slowness are not what these tests are about; a kill
    # here is a cancelled task, which no fsync can help.
    monkeypatch.setattr(trio.to_thread, "run_sync", refuse)
    monkeypatch.setattr(trio._core._run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    trio._core._run._r.seed(1)
    random.seed(1)
    return MockClock(autojump_threshold=0)


@pytest.fixture
async def world(jumping_clock: MockClock, fleet_template: Path, tmp_path: Path) -> AsyncIterator[World]:
    """One site without endpoints."""
    shutil.copytree(fleet_template, tmp_path / "fleet")
    async with open_world(tmp_path, tmp_path / "fleet", jumping_clock) as made:
        yield made
