# SPDX-License-Identifier: Apache-2.0
"""A fleet made once per run and copied for each test; every test here runs on virtual time."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from seeds.new_fleet import FleetPlan, create_fleet
from signing import encrypted_pkcs8
from tests.fakes.frozen_clock import START
from tests.simulator.administrator import OFFLINE, ONLINE, SEGMENT
from tests.simulator.virtual_time import on_virtual_time
from tests.simulator.world import CANARY_SOAK_SECONDS, World, open_world

HERE = Path(__file__).parent


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have pytest-trio run them so; in front of the mark that its `trio_mode` has put on them."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.trio(run=on_virtual_time), append=False)


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
async def world(fleet_template: Path, tmp_path: Path) -> AsyncIterator[World]:
    """One site without endpoints."""
    shutil.copytree(fleet_template, tmp_path / "fleet")
    async with open_world(tmp_path, tmp_path / "fleet") as made:
        yield made
