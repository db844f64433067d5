# SPDX-License-Identifier: Apache-2.0
"""The HTTP interface over fake services and a directory of files, asked in memory."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from p2pd.host.telemetry import AsgiApp
from seeds.adapters.http_api import agent_app, public_app
from seeds.adapters.metrics import CoordinatorMetrics
from seeds.adapters.rate_limit import SourceLimiter
from seeds.adapters.static_files import StaticFiles
from seeds.ports import Enrolled, Health, Renewed, ReportOutcome
from seeds.services.changes import Changes

ENROLLED = Enrolled(
    device="pc-1", segment="office", site="paris", certificate="C", segment_ca="A", root="{}", agent_url="https://a"
)
RENEWED = Renewed(device="pc-1", segment="office", certificate="C", segment_ca="A")


@dataclass
class FakeDesk:
    """Stands for enrolment, report intake and health; remembers what it was asked and answers as told."""

    asked: list[Any] = field(default_factory=list)
    problem: Exception | None = None
    health: Health = field(default_factory=lambda: Health(healthy=True, facts={"database": "ok"}))

    async def enrol(self, *, secret: str, device: str, csr: bytes) -> Enrolled:
        self._note((secret, device, csr))
        return ENROLLED

    async def renew(self, envelope: bytes) -> Renewed:
        self._note(envelope)
        return RENEWED

    async def accept(self, envelopes: Sequence[bytes]) -> tuple[ReportOutcome, ...]:
        self._note(list(envelopes))
        return tuple(ReportOutcome(accepted=True) for _ in envelopes)

    async def check(self) -> Health:
        return self.health

    def _note(self, question: object) -> None:
        self.asked.append(question)
        if self.problem:
            raise self.problem


class Origin:
    """Both applications, with everything behind them within reach of the test."""

    def __init__(self, directory: Path, *, max_long_polls: int = 2) -> None:
        self.directory = directory
        for name in ("metadata", "targets", "payloads"):
            (directory / name).mkdir()
        self.desk = FakeDesk()
        self.changes = Changes(5)
        self.metrics = CoordinatorMetrics(lambda: 1_000.0)
        self.public_app = public_app(
            files=StaticFiles(
                metadata=directory / "metadata", targets=directory / "targets", payloads=directory / "payloads"
            ),
            ca_pem=b"the authority",
            enrolment=self.desk,
            changes=self.changes,
            health=self.desk,
            limiter=SourceLimiter(per_second=0.001, burst=3),
            max_long_polls=max_long_polls,
            metrics=self.metrics,
        )
        self.agent_app = agent_app(reports=self.desk, metrics=self.metrics)
        self.public = _client(self.public_app)
        self.agent = _client(self.agent_app)

    def put(self, name: str, data: bytes) -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


def _client(app: AsgiApp) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=cast("Any", app), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="https://origin")


@pytest.fixture
async def origin(tmp_path: Path) -> Any:
    made = Origin(tmp_path)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(made.public)
        await stack.enter_async_context(made.agent)
        yield made
