# SPDX-License-Identifier: Apache-2.0
"""Reports reach the coordinator in order and for good, whatever stands between; on a clock that stands still."""

import errno
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import pytest
import trio
from prometheus_client import CollectorRegistry
from trio.testing import MockClock, wait_all_tasks_blocked

from p2pd.adapters.report_spool import ReportSpool
from p2pd.ports_control import Attempt, CoordinatorUnavailable, Refused, ReportVerdict, StorageFailed
from p2pd.services.metrics import AgentMetrics
from p2pd.services.reporting import BATCH, PASSING_SECONDS, RETRY_BATCH, Reporter
from signing.devices import DeviceKey
from signing.envelope import open_envelope
from signing.reasons import Reason
from signing.report import InstallState, Measured, Report
from tests.fakes.frozen_clock import FrozenWallClock
from tests.p2pd.services.views import NOW, SELF
from tests.simulator.virtual_time import in_place

KEY = DeviceKey.generate()
UNTIL_PROBATION = (InstallState.FETCHING, InstallState.STAGED, InstallState.PROBATION)
THREE_ENDS = (InstallState.COMMITTED, InstallState.ROLLING_BACK, InstallState.ROLLED_BACK)


def attempt(state: InstallState) -> Attempt:
    return Attempt(
        product="tool",
        version="1.0",
        release_counter=1,
        manifest_sha256="a" * 64,
        manifest=b"",
        state=state,
        began=NOW,
    )


@dataclass
class FakeDesk:
    """A coordinator that keeps reports by number, and believes the highest, as the real one does."""

    kept: dict[int, Report] = field(default_factory=dict)
    failure: Exception | None = None
    most: int = BATCH
    asked: list[float] = field(default_factory=list)

    async def send_reports(self, envelopes: Sequence[bytes]) -> tuple[ReportVerdict, ...]:
        await trio.lowlevel.checkpoint()
        self.asked.append(trio.current_time())
        if self.failure is not None:
            raise self.failure
        if len(envelopes) > self.most:
            raise Refused(Reason.REQUEST_TOO_LARGE, "413 from a proxy")
        return tuple(map(self._judge, envelopes))

    def _judge(self, envelope: bytes) -> ReportVerdict:
        report = open_envelope(Report, envelope, KEY.public_pem, where="report")
        if self.kept.setdefault(report.sequence, report) == report:
            return ReportVerdict(accepted=True, reason=None)
        return ReportVerdict(accepted=False, reason=Reason.SEQUENCE_REUSED)

    async def wait_for_change(self, timestamp_version: int) -> int:
        raise AssertionError

    async def renew_certificate(self, envelope: bytes) -> bytes:
        raise AssertionError

    @property
    def states(self) -> list[InstallState]:
        """What was reported, in the order of numbers."""
        return [self.kept[sequence].state for sequence in sorted(self.kept)]


class FailingSpool(ReportSpool):
    """A disk that does what a test says before each look at the oldest reports."""

    before_look: Callable[[], None] | None = None

    async def oldest(self, most: int) -> tuple[tuple[int, bytes], ...]:
        if self.before_look is not None:
            self.before_look()
        return await super().oldest(most)


class Scene:
    def __init__(self, directory: Path, clock: MockClock) -> None:
        self.clock = clock
        self.wall_clock = FrozenWallClock(clock)
        self.desk = FakeDesk()
        self.metrics = AgentMetrics(CollectorRegistry())
        self.spool = FailingSpool(directory, KEY, in_place, read_unix=self.wall_clock.unix)
        self.reporter = Reporter(self.spool, self.desk, self.wall_clock, SELF, self.metrics)

    async def pass_time(self, seconds: int) -> None:
        await wait_all_tasks_blocked()
        for _ in range(seconds):
            self.clock.jump(1)
            await wait_all_tasks_blocked()

    async def report(self, *states: InstallState) -> None:
        for state in states:
            await self.reporter.report(attempt(state))
        await wait_all_tasks_blocked()

    @property
    def gauge(self) -> float | None:
        return self.metrics.registry.get_sample_value("p2pd_spooled_reports")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.reporter.run)
            await wait_all_tasks_blocked()
            yield
            nursery.cancel_scope.cancel()


@pytest.fixture
def scene(tmp_path: Path, frozen_clock: MockClock) -> Scene:
    return Scene(tmp_path / "spool", frozen_clock)


async def test_reports_are_sent_as_they_are_made(scene: Scene, frozen_clock: MockClock) -> None:
    async with scene.running():
        await scene.report(InstallState.FETCHING)
        await scene.pass_time(1)
        assert scene.desk.states == [InstallState.FETCHING]
        assert await scene.spool.count() == 0
        assert scene.gauge == 0


async def test_an_end_after_a_silence_goes_at_once(scene: Scene, frozen_clock: MockClock) -> None:
    async with scene.running():
        await scene.report(*UNTIL_PROBATION)
        assert scene.desk.states == []
        await scene.report(InstallState.COMMITTED)
        assert scene.desk.states == [InstallState.COMMITTED]


async def test_thousands_on_the_way_are_told_little_by_little_and_hold_no_end_up(
    scene: Scene, frozen_clock: MockClock
) -> None:
    """Those that go on meanwhile cost nothing: each is told once, with what it has come to."""
    many = [replace(attempt(InstallState.FETCHING), manifest_sha256=f"{number:064x}") for number in range(4 * BATCH)]
    full = BATCH * PASSING_SECONDS
    async with scene.running():
        for fetched in many:
            await scene.reporter.report(fetched)
        await scene.pass_time(1)
        assert len(scene.desk.kept) == BATCH
        for fetched in many[BATCH:]:
            await scene.reporter.report(replace(fetched, state=InstallState.VERIFIED))
        await scene.report(InstallState.COMMITTED)
        assert len(scene.desk.kept) == BATCH + 1, "an end goes along at once"
        await scene.pass_time(int(4 * full) + 2)
    assert len(scene.desk.kept) == len(many) + 1
    assert scene.desk.states.count(InstallState.VERIFIED) == 3 * BATCH
    assert all(later - earlier >= 1 for earlier, later in pairwise(scene.desk.asked[1:]))


async def test_of_states_that_pass_only_the_newest_is_told(scene: Scene, frozen_clock: MockClock) -> None:
    async with scene.running():
        await scene.report(InstallState.FETCHING, InstallState.STAGED)
        await scene.pass_time(1)
        await scene.report(InstallState.VERIFIED, InstallState.RESERVED, InstallState.PROBATION)
        assert scene.gauge == 1
        await scene.pass_time(1)
        assert scene.desk.states == [InstallState.STAGED, InstallState.PROBATION]
        assert scene.gauge == 0


async def test_every_end_is_told_and_nothing_that_it_outdates(scene: Scene, frozen_clock: MockClock) -> None:
    """And a new attempt at the same release, after it."""
    ends = (InstallState.FAILED, InstallState.ROLLING_BACK, InstallState.ROLLED_BACK, InstallState.COMMITTED)
    for end in ends:
        await scene.report(*UNTIL_PROBATION, end)
    await scene.report(InstallState.FETCHING)
    async with scene.running():
        await scene.pass_time(1)
    assert scene.desk.states == [*ends, InstallState.FETCHING]


async def test_hundreds_of_products_are_told_in_a_few_requests(scene: Scene, frozen_clock: MockClock) -> None:
    async with scene.running():
        for state in (*UNTIL_PROBATION, InstallState.COMMITTED):
            async with trio.open_nursery() as nursery:
                for number in range(300):
                    told = replace(attempt(state), product=f"tool-{number}", manifest_sha256=f"{number:064d}")
                    nursery.start_soon(scene.reporter.report, told)
        await scene.pass_time(3)
    assert scene.desk.states.count(InstallState.COMMITTED) == 300
    assert len(scene.desk.asked) < 10
    newest = {report.manifest_sha256: report.state for _, report in sorted(scene.desk.kept.items())}
    assert set(newest.values()) == {InstallState.COMMITTED}


async def test_states_that_pass_take_no_room_while_nobody_hears_them(scene: Scene, frozen_clock: MockClock) -> None:
    scene.desk.failure = CoordinatorUnavailable("away")
    async with scene.running():
        await scene.report(InstallState.FETCHING)
        await scene.pass_time(5)
        for _ in range(3 * RETRY_BATCH):
            await scene.report(*UNTIL_PROBATION)
        await scene.pass_time(5)
        assert await scene.spool.count() <= RETRY_BATCH  # what was to be sent then, however often it changed since
        scene.desk.failure = None
        await scene.pass_time(60)
        assert len(scene.desk.states) <= 1 + RETRY_BATCH
        assert (scene.desk.states[0], scene.desk.states[-1]) == (InstallState.FETCHING, InstallState.PROBATION)


async def test_what_a_transfer_measured_is_told_once(scene: Scene, frozen_clock: MockClock) -> None:
    measured = Measured(wan_bytes_per_s=6e6, lan_in_bytes_per_s=2e7)
    async with scene.running():
        for state in UNTIL_PROBATION:
            await scene.reporter.report(replace(attempt(state), measured=measured))
            await scene.pass_time(10)
        told = [report.measured for report in scene.desk.kept.values()]
    assert [each for each in told if each is not None] == [measured]


@pytest.mark.parametrize("failure", [CoordinatorUnavailable("away"), Refused(None, "403 from a proxy")])
async def test_what_cannot_be_sent_waits_and_is_tried_ever_more_rarely(
    scene: Scene, frozen_clock: MockClock, failure: Exception
) -> None:
    scene.desk.failure = failure
    async with scene.running():
        await scene.report(*THREE_ENDS)
        await scene.pass_time(130)
        assert scene.desk.asked == [0, 1, 3, 7, 15, 31, 63, 123]
        assert scene.gauge == 3
        scene.desk.failure = None
        await scene.pass_time(60)
        assert scene.desk.states == list(THREE_ENDS)
        assert scene.gauge == 0


async def test_a_proxy_that_takes_small_requests_gets_small_ones(scene: Scene, frozen_clock: MockClock) -> None:
    scene.desk.most = RETRY_BATCH
    await scene.report(*[InstallState.FAILED] * (3 * RETRY_BATCH))
    async with scene.running():
        await scene.pass_time(10)
        assert len(scene.desk.kept) == 3 * RETRY_BATCH


async def test_a_spool_from_a_copy_loses_no_evidence(scene: Scene, frozen_clock: MockClock) -> None:
    """The disk was restored to the time before two reports that the coordinator has; three more were made since."""
    others = [attempt(InstallState.FAILED), attempt(InstallState.FAILED)]
    for sequence, other in enumerate(others, 1):
        await scene.reporter.report(other)
        scene.desk.kept[sequence] = open_envelope(
            Report, (await scene.spool.oldest(1))[0][1], KEY.public_pem, where="x"
        )
        await scene.spool.discard(sequence)
    (scene.spool._directory / "next-sequence").unlink()
    await scene.report(*THREE_ENDS)
    async with scene.running():
        await scene.pass_time(2)
        assert await scene.spool.count() == 0
        assert scene.desk.states[:2] == [InstallState.FAILED] * 2
        assert scene.desk.states[-3:] == list(THREE_ENDS)  # the coordinator believes the last
        await scene.report(InstallState.COMMITTED)
        assert scene.desk.states[-1] is InstallState.COMMITTED
        assert max(scene.desk.kept) < NOW * 1_000 + 2_000_000


async def test_a_number_that_is_used_again_is_given_up_once_only(scene: Scene, frozen_clock: MockClock) -> None:
    """A coordinator that finds all numbers used keeps nobody busy."""

    class Contrarian(FakeDesk):
        def _judge(self, envelope: bytes) -> ReportVerdict:
            return ReportVerdict(accepted=False, reason=Reason.SEQUENCE_REUSED)

    desk = Contrarian()
    reporter = Reporter(scene.spool, desk, scene.wall_clock, SELF, scene.metrics)
    await reporter.report(attempt(InstallState.FETCHING))
    async with trio.open_nursery() as nursery:
        await nursery.start(reporter.run)
        await scene.pass_time(5)
        nursery.cancel_scope.cancel()
    assert len(desk.asked) == 2
    assert await scene.spool.count() == 0


async def test_other_refusals_are_final(scene: Scene, frozen_clock: MockClock) -> None:
    class Strict(FakeDesk):
        def _judge(self, envelope: bytes) -> ReportVerdict:
            return ReportVerdict(accepted=False, reason=Reason.DEVICE_UNKNOWN)

    desk = Strict()
    reporter = Reporter(scene.spool, desk, scene.wall_clock, SELF, scene.metrics)
    await reporter.report(attempt(InstallState.COMMITTED))
    async with trio.open_nursery() as nursery:
        await nursery.start(reporter.run)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert len(desk.asked) == 1
    assert await scene.spool.count() == 0


async def test_a_disk_that_cannot_be_read_is_waited_for(scene: Scene, frozen_clock: MockClock) -> None:
    def broken() -> None:
        raise StorageFailed(OSError(errno.EIO, "Input/output error"))

    await scene.report(*THREE_ENDS)
    scene.spool.before_look = broken
    async with scene.running():
        await scene.pass_time(3)
        assert scene.desk.kept == {}
        scene.spool.before_look = None
        await scene.pass_time(5)
        assert scene.desk.states == list(THREE_ENDS)


async def test_a_report_that_the_disk_does_not_take_is_the_callers_to_repeat(
    scene: Scene, frozen_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async with scene.running():
        with monkeypatch.context() as patch:
            patch.setattr("p2pd.adapters.report_spool.write_atomically", full)
            with pytest.raises(StorageFailed):
                await scene.report(InstallState.COMMITTED)
        assert scene.desk.kept == {}
        await scene.report(InstallState.COMMITTED)
        assert scene.desk.states == [InstallState.COMMITTED]
