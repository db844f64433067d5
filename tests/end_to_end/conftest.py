# SPDX-License-Identifier: Apache-2.0
"""One fleet per run, copied for each test; real processes, all ended with their test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bench.lab.processes import Processes, open_processes
from tests.end_to_end.fleet import FleetUnderTest
from tests.end_to_end.template import Template


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    """The fleet that others are copies of."""
    return Template(tmp_path_factory.mktemp("template"))


@pytest.fixture
async def processes() -> AsyncIterator[Processes]:
    """Where a test starts processes."""
    async with open_processes() as opened:
        yield opened


@pytest.fixture
def fleet(template: Template, tmp_path: Path, processes: Processes) -> FleetUnderTest:
    """A fleet of the test's own, on loopback addresses."""
    return FleetUnderTest(template, tmp_path, processes)
