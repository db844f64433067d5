# SPDX-License-Identifier: Apache-2.0
"""What every `Coordinator` does: the fake of the scenarios, and the agent's HTTPS client with a real coordinator."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol

import httpx
import pytest
import trio
import trio.testing

from p2pd.adapters.coordinator_https import AgentClient, CoordinatorHttps, post_json
from p2pd.host.tls import client_context
from p2pd.host.wall_clock import WallClock
from p2pd.ports_control import Coordinator, CoordinatorUnavailable, Refused, ReportVerdict
from seeds.adapters.store import Store
from seeds.config import Address
from seeds.coordinator import run_coordinator
from seeds.fleet import Fleet, open_fleet
from seeds.new_fleet import FleetPlan, create_fleet
from seeds.services.tokens import TokenWish, issue_token
from seeds.signers import open_online_keys
from signing import encrypted_pkcs8
from signing.devices import DeviceKey, read_device_certificate
from signing.envelope import seal
from signing.reasons import Reason
from signing.renewal import RenewalRequest
from signing.report import InstallState, Report
from signing.repository import Repository
from tests.fakes.fake_coordinator import FakeCoordinator
from tests.fakes.fake_uplink import FakeUplink

PASSPHRASE = b"passphrase"
WAIT_SECONDS = 20.0  # takes a tenth of a second; this is for machines that are busy with something else


class World(Protocol):
    """A coordinator, one enrolled device `pc-1` with `key`, and the line that connects them."""

    line: Coordinator
    key: DeviceKey

    async def enrol_another(self) -> None:
        """Change what the coordinator publishes."""

    def take_away(self) -> None:
        """Nothing gets through any more."""


class FakeWorld:
    def __init__(self, fleet: Fleet, store: Store) -> None:
        self._coordinator = FakeCoordinator(
            fleet,
            store,
            keys=open_online_keys(fleet, Repository(fleet.repository), PASSPHRASE),
            authorities={"office": fleet.open_authority("office", PASSPHRASE)},
            clock=WallClock(),
            uplink=FakeUplink(),
        )
        self.key = DeviceKey.generate()
        self.line: Coordinator = self._coordinator.line("pc-1")

    async def start(self, nursery: trio.Nursery) -> None:
        await nursery.start(self._coordinator.run)
        await self._coordinator.enrol("pc-1", self.key, segment="office", site="paris")

    async def enrol_another(self) -> None:
        await self._coordinator.enrol("pc-2", DeviceKey.generate(), segment="office", site="paris")

    def take_away(self) -> None:
        self._coordinator.uplink.cut()


class RealWorld:
    line: Coordinator

    def __init__(self, fleet: Fleet, store: Store, directory: Path) -> None:
        self.key = DeviceKey.generate()
        self._fleet = fleet
        self._store = store
        self._directory = directory
        self._life = trio.CancelScope()

    async def start(self, nursery: trio.Nursery, stack: AsyncExitStack) -> None:
        bound = await nursery.start(self._run)
        self._url, agent_url = (f"https://127.0.0.1:{port}" for ((_, port),) in (bound.public, bound.agent))
        ca_pem = self._fleet.read_server_ca()
        self._public = await stack.enter_async_context(httpx.AsyncClient(verify=client_context(ca_pem=ca_pem)))
        certificate, key = self._directory / "device.pem", self._directory / "device-key.pem"
        certificate.write_text(await self._enrol("pc-1", self.key))
        key.write_bytes(self.key.to_pem())
        context = client_context(ca_pem=ca_pem, certificate=certificate, key=key)
        agent = await stack.enter_async_context(httpx.AsyncClient(verify=context))
        self.line = CoordinatorHttps(self._public, AgentClient(agent), url=self._url, agent_url=agent_url)

    async def _run(self, *, task_status: trio.TaskStatus[object]) -> None:
        with self._life:
            await run_coordinator(self._fleet, passphrase=PASSPHRASE, task_status=task_status)

    async def _enrol(self, device: str, key: DeviceKey) -> str:
        wish = TokenWish(segment="office", site="paris")
        now = int(datetime.now(UTC).timestamp())
        token = issue_token(self._store, self._fleet.pins(), wish, who="test", now=now)
        body = {"secret": token.secret, "device": device, "csr": key.csr(device).decode()}
        return str((await post_json(self._public, f"{self._url}/enroll", body))["certificate"])

    async def enrol_another(self) -> None:
        await self._enrol("pc-2", DeviceKey.generate())

    def take_away(self) -> None:
        self._life.cancel()


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    monkeypatch.setattr(encrypted_pkcs8, "_SCRYPT_N", 2)
    plan, now = FleetPlan(names=("127.0.0.1",), segments=("office",)), datetime.now(UTC)
    create_fleet(tmp_path / "fleet", plan, offline_passphrase=PASSPHRASE, online_passphrase=PASSPHRASE, now=now)
    made, anywhere = open_fleet(tmp_path / "fleet"), (Address(host="127.0.0.1", port=0),)
    config = replace(made.config, public=anywhere, agent=anywhere, metrics=anywhere, drain_seconds=0.2)
    return Fleet(made.layout, config)


@pytest.fixture(params=["fake", "https"])
async def world(request: pytest.FixtureRequest, fleet: Fleet, tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        store = stack.enter_context(Store(fleet.database))
        nursery = await stack.enter_async_context(trio.open_nursery())
        if request.param == "fake":
            fake = FakeWorld(fleet, store)
            await fake.start(nursery)
            yield fake
        else:
            real = RealWorld(fleet, store, tmp_path)
            await real.start(nursery, stack)
            yield real
        nursery.cancel_scope.cancel()


def report(sequence: int, *, device: str = "pc-1", state: InstallState = InstallState.FETCHING) -> Report:
    return Report(
        device=device,
        sequence=sequence,
        time=1_800_000_000,
        product="tzdata",
        version="1.0",
        manifest_sha256="0" * 64,
        state=state,
    )


async def test_who_lags_behind_is_told_at_once(world: World) -> None:
    with trio.fail_after(WAIT_SECONDS):
        assert await world.line.wait_for_change(0) >= 1


async def test_who_is_up_to_date_is_told_as_soon_as_there_is_news(world: World) -> None:
    with trio.fail_after(WAIT_SECONDS):
        version = await settled_version(world)
        told: list[int] = []
        blocked = partial(trio.testing.wait_all_tasks_blocked, 0.05)

        async def wait() -> None:
            told.append(await world.line.wait_for_change(version))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await blocked()
            while told:  # that was the schedule with `pc-1`, on a busy machine
                version = told.pop()
                nursery.start_soon(wait)
                await blocked()
            await world.enrol_another()
    assert told[0] > version


async def settled_version(world: World) -> int:
    """The version once the schedule with `pc-1` is out."""
    first = await world.line.wait_for_change(0)
    with trio.move_on_after(1.0):
        return await world.line.wait_for_change(first)
    return first


async def test_every_report_gets_a_verdict_in_order(world: World) -> None:
    first, stranger = report(1), report(1, device="pc-9")
    envelopes = [seal(first, world.key), seal(stranger, world.key), seal(report(2), DeviceKey.generate())]
    assert await world.line.send_reports(envelopes) == (
        ReportVerdict(accepted=True, reason=None),
        ReportVerdict(accepted=False, reason=Reason.DEVICE_UNKNOWN),
        ReportVerdict(accepted=False, reason=Reason.SIGNATURE_INVALID),
    )


async def test_a_report_may_be_sent_again_but_not_changed(world: World) -> None:
    send = world.line.send_reports
    for _ in "again":
        assert await send([seal(report(1), world.key)]) == (ReportVerdict(accepted=True, reason=None),)
    (verdict,) = await send([seal(report(1, state=InstallState.COMMITTED), world.key)])
    assert verdict == ReportVerdict(accepted=False, reason=Reason.SEQUENCE_REUSED)


async def test_a_certificate_is_renewed_for_the_same_key(world: World) -> None:
    now = int(datetime.now(UTC).timestamp())
    request = RenewalRequest(device="pc-1", csr=world.key.csr("pc-1").decode(), time=now)
    certificate = read_device_certificate(await world.line.renew_certificate(seal(request, world.key)), where="test")
    assert (certificate.device, certificate.public_pem) == ("pc-1", world.key.public_pem)
    stranger = replace(request, device="pc-9")
    with pytest.raises(Refused) as refusal:
        await world.line.renew_certificate(seal(stranger, world.key))
    assert refusal.value.reason is Reason.DEVICE_UNKNOWN


async def test_a_coordinator_that_is_away_is_unavailable(world: World) -> None:
    world.take_away()
    await trio.testing.wait_all_tasks_blocked(0.3)
    for call in (
        partial(world.line.wait_for_change, 0),
        partial(world.line.send_reports, [seal(report(1), world.key)]),
        partial(world.line.renew_certificate, seal(report(1), world.key)),
    ):
        with pytest.raises(CoordinatorUnavailable):
            await call()
