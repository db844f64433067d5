# SPDX-License-Identifier: Apache-2.0
"""What every `HealthProbe` does: the scripted fake of the scenarios, and the one that runs real commands."""

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from p2pd.adapters.health_probe import SystemHealthProbe
from p2pd.ports_control import HealthProbe
from signing.manifest import CommandCheck
from tests.fakes.fake_health_probe import FakeHealthProbe, check_of


@dataclass
class World:
    """A probe, a check that finds something well, and one that does not."""

    probe: HealthProbe
    well: CommandCheck
    ill: CommandCheck


@pytest.fixture(params=["fake", "system"])
def world(request: pytest.FixtureRequest) -> World:
    if request.param == "fake":
        fake = FakeHealthProbe()
        fake.falls_ill("tzdata", "2.0")
        return World(fake, check_of("tzdata", "1.0"), check_of("tzdata", "2.0"))
    return World(SystemHealthProbe(), _python("pass"), _python("raise SystemExit('it is ill')"))


def _python(code: str) -> CommandCheck:
    return CommandCheck(argv=(sys.executable, "-c", code))


async def test_a_check_that_finds_all_well_passes(world: World, tmp_path: Path) -> None:
    assert (await world.probe.run(world.well, slot=tmp_path)).passed


async def test_a_check_that_fails_says_in_a_line_what_it_saw(world: World, tmp_path: Path) -> None:
    result = await world.probe.run(world.ill, slot=tmp_path)
    assert not result.passed
    assert result.detail.endswith("ill")
    assert "\n" not in result.detail


async def test_one_result_does_not_touch_the_next(world: World, tmp_path: Path) -> None:
    results = [await world.probe.run(check, slot=tmp_path) for check in (world.ill, world.well, world.ill)]
    assert [result.passed for result in results] == [False, True, False]
