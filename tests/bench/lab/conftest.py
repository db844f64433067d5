# SPDX-License-Identifier: Apache-2.0
"""What tests of the lab share."""

import pytest

from bench.lab.network import why_not_available


@pytest.fixture
def possible() -> None:
    """Skip, with the reason, where no lab can be built."""
    reason = why_not_available()
    if reason is not None:
        pytest.skip(reason)
