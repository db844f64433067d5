# SPDX-License-Identifier: Apache-2.0
"""A fleet and a client of it, for the stories of this package."""

from pathlib import Path

import pytest

from tests.signing.fleet import Client, Fleet


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path / "repository")


@pytest.fixture
def client(tmp_path: Path, fleet: Fleet) -> Client:
    return Client(tmp_path / "client", repository=fleet.directory, root=fleet.root_bytes)
