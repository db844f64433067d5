# SPDX-License-Identifier: Apache-2.0
"""A certificate is renewed in good time, and nothing that answers in the coordinator's place ends the daemon."""

import errno
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
import trio
from prometheus_client import CollectorRegistry
from trio.testing import MockClock, wait_all_tasks_blocked

from p2pd.ports_control import CoordinatorUnavailable, Refused, ReportVerdict
from p2pd.services.metrics import AgentMetrics
from p2pd.services.renewing import Renewal
from signing.devices import DeviceKey, SegmentAuthority, read_device_certificate
from signing.envelope import open_envelope
from signing.errors import BadInput
from signing.reasons import Reason
from signing.renewal import RenewalRequest
from tests.fakes.frozen_clock import START, FrozenWallClock
from tests.p2pd.services.views import SELF

HOUR = 3_600
LIFETIME = timedelta(hours=30)
DUE = 20 * HOUR
KEY = DeviceKey.generate()
AUTHORITY = SegmentAuthority.create(SELF.segment, now=START)


class Scene:
    """A device with a new certificate, and a coordinator whose answers a test may replace."""

    def __init__(self, clock: MockClock) -> None:
        self.clock = clock
        self.wall_clock = FrozenWallClock(clock)
        self.asked: list[float] = []
        self.used: list[bytes] = []
        self.answer: Callable[[bytes], bytes] = self.issue
        self.store: Callable[[], None] = lambda: None
        self.metrics = AgentMetrics(CollectorRegistry())
        first = read_device_certificate(self.certificate(), where="first")
        self.not_before = (START - first.not_before).total_seconds()
        self.renewal = Renewal(KEY, first, self, self.wall_clock, SELF, self.metrics, use=self.use)

    def certificate(self, *, key: DeviceKey = KEY, device: str = SELF.device, lifetime: timedelta = LIFETIME) -> bytes:
        now = self.wall_clock.now() if self.asked else START
        return AUTHORITY.issue(key.csr(device), device=device, now=now, lifetime=lifetime)

    def issue(self, envelope: bytes) -> bytes:
        request = open_envelope(RenewalRequest, envelope, KEY.public_pem, where="request")
        assert request.device == SELF.device
        return self.certificate()

    async def use(self, pem: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.store()
        self.used.append(pem)

    async def renew_certificate(self, envelope: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        self.asked.append(trio.current_time())
        return self.answer(envelope)

    async def wait_for_change(self, timestamp_version: int) -> int:
        raise AssertionError

    async def send_reports(self, envelopes: Sequence[bytes]) -> tuple[ReportVerdict, ...]:
        raise AssertionError

    async def pass_time(self, seconds: float, *, step: float = 60) -> None:
        await wait_all_tasks_blocked()
        for _ in range(int(seconds / step)):
            self.clock.jump(step)
            await wait_all_tasks_blocked()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.renewal.run)
            await wait_all_tasks_blocked()
            yield
            nursery.cancel_scope.cancel()


@pytest.fixture
def scene(frozen_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr("random.random", lambda: 0.5)
    return Scene(frozen_clock)


def raises(problem: Exception) -> Callable[[bytes], bytes]:
    def answer(_: bytes) -> bytes:
        raise problem

    return answer


async def test_it_is_renewed_at_two_thirds_of_its_life_and_again(scene: Scene, frozen_clock: MockClock) -> None:
    async with scene.running():
        await scene.pass_time(DUE - HOUR)
        assert scene.asked == []
        await scene.pass_time(2 * HOUR)
        assert len(scene.used) == 1
        await scene.pass_time(DUE + HOUR)
        assert len(scene.used) == len(scene.asked) == 2
    until = read_device_certificate(scene.used[-1], where="used").not_after.timestamp()
    told = scene.metrics.registry.get_sample_value(
        "p2pd_metadata_expiry_timestamp_seconds", {"role": "device_certificate"}
    )
    assert told == until


def other_key(scene: Scene) -> Callable[[bytes], bytes]:
    return lambda _: scene.certificate(key=DeviceKey.generate())


def other_device(scene: Scene) -> Callable[[bytes], bytes]:
    return lambda _: scene.certificate(device="desk-2")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda _: raises(CoordinatorUnavailable("away")),
        lambda _: raises(Refused(Reason.CLOCK_SKEWED, "set the clock")),
        lambda _: raises(Refused(None, "407 from a proxy")),
        lambda _: raises(BadInput("answer", "is cut off")),
        lambda _: lambda _: b"<html>log in</html>",
        lambda _: lambda _: b"",
        other_key,
        other_device,
    ],
    ids=["away", "refused", "proxy", "cut off", "no certificate", "nothing", "another key", "another device"],
)
async def test_a_wrong_answer_is_a_failure_and_no_end(
    scene: Scene, frozen_clock: MockClock, wrong: Callable[[Scene], Callable[[bytes], bytes]]
) -> None:
    scene.answer = wrong(scene)
    async with scene.running():
        await scene.pass_time(DUE + HOUR)
        asked = len(scene.asked)
        assert 5 < asked < 20  # ever more rarely
        assert scene.used == []
        scene.answer = scene.issue
        await scene.pass_time(2 * HOUR)
        assert len(scene.used) == 1
        assert len(scene.asked) == asked + 1


@pytest.mark.parametrize(
    "problem", [OSError(errno.ENOSPC, "No space left on device"), BadInput("certificate", "does not fit the key")]
)
async def test_a_certificate_that_cannot_be_used_is_asked_for_again(
    scene: Scene, frozen_clock: MockClock, problem: Exception
) -> None:
    def fail() -> None:
        raise problem

    scene.store = fail
    async with scene.running():
        await scene.pass_time(DUE + HOUR)
        assert 1 < len(scene.asked) < 20
        scene.store = lambda: None
        await scene.pass_time(2 * HOUR)
        assert len(scene.used) == 1


async def test_certificates_that_are_old_when_they_come_make_no_storm(scene: Scene, frozen_clock: MockClock) -> None:
    """The coordinator's clock is far behind, or ours ahead: what it issues is used, but not asked for without end."""
    issued_at = START - timedelta(days=30)
    scene.answer = lambda _: AUTHORITY.issue(KEY.csr(SELF.device), device=SELF.device, now=issued_at, lifetime=LIFETIME)
    async with scene.running():
        await scene.pass_time(DUE + HOUR)
        assert 1 < len(scene.asked) < 20
        assert len(scene.used) == len(scene.asked)
