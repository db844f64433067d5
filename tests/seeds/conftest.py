# SPDX-License-Identifier: Apache-2.0
"""A small fleet on disk, made once per run and copied for each test."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from seeds.config import Address
from seeds.fleet import Fleet, open_fleet
from seeds.new_fleet import FleetPlan, create_fleet
from signing import encrypted_pkcs8
from tests.seeds.fleet_kit import OFFLINE, ONLINE

LOOPBACK = Address(host="127.0.0.1", port=0)


@pytest.fixture(scope="session")
def fleet_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two segments, keys whose derivation is cheap, and certificates that are valid now, as real TLS wants them."""
    directory = tmp_path_factory.mktemp("fleet") / "template"
    plan = FleetPlan(names=("127.0.0.1", "localhost"), segments=("office", "lab"), canary_soak_seconds=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encrypted_pkcs8, "_SCRYPT_N", 2)
        create_fleet(directory, plan, offline_passphrase=OFFLINE, online_passphrase=ONLINE, now=datetime.now(UTC))
    return directory


@pytest.fixture
def fleet(fleet_template: Path, tmp_path: Path) -> Fleet:
    """A fleet of the test's own, which listens on ports that the kernel chooses."""
    shutil.copytree(fleet_template, tmp_path / "fleet")
    made = open_fleet(tmp_path / "fleet")
    config = replace(made.config, public=(LOOPBACK,), agent=(LOOPBACK,), metrics=(LOOPBACK,), drain_seconds=0.5)
    return Fleet(made.layout, config)
