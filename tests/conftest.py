# SPDX-License-Identifier: Apache-2.0
"""Clocks of tests. A test of timing asks for `frozen_clock` itself, or pytest-trio runs it on the real one."""

import math

import hypothesis
import pytest
from trio.testing import MockClock

from tests.fakes.frozen_clock import FrozenWallClock

# A deadline for each example would measure how busy the machine is, not the code.
hypothesis.settings.register_profile("p2pd", deadline=None)
hypothesis.settings.load_profile("p2pd")


@pytest.fixture
def frozen_clock() -> MockClock:
    """A clock that stands still until the test calls `jump`; no autojump, since a busy thread looks idle to it."""
    return MockClock(rate=0.0, autojump_threshold=math.inf)


@pytest.fixture
def wall_clock(frozen_clock: MockClock) -> FrozenWallClock:
    """Calendar time that follows `frozen_clock`."""
    return FrozenWallClock(frozen_clock)
