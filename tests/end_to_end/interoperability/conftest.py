# SPDX-License-Identifier: Apache-2.0
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from p2pd import trust_cli
from tests.end_to_end.interoperability.trust_lab import FutureClock, TrustLab, serving
from tests.signing.repository_simulator import RepositorySimulator


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command honours proxies, which know nothing of this machine's loopback address, and authorities.

    Loading the system's authorities for each command would take longer than all the rest of these tests.
    """
    monkeypatch.setenv("SSL_CERT_FILE", os.devnull)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FutureClock:
    """The system's clock as the command sees it."""
    clock = FutureClock()
    monkeypatch.setattr(trust_cli, "_now", clock)
    return clock


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[TrustLab]:
    """A user who has not yet called `init`, and a repository with nothing but the top-level roles."""
    repository = RepositorySimulator(datetime.now(UTC))
    with serving(repository) as url:
        yield TrustLab(tmp_path, repository, url)
