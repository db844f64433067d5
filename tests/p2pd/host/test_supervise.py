# SPDX-License-Identifier: Apache-2.0
"""Tests of p2pd.host.supervise, on a frozen clock."""

from collections.abc import Callable
from functools import partial

import pytest
import trio
from prometheus_client import REGISTRY
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from p2pd.host.supervise import ServiceFailure, keep_running


class Flaky:
    """A service that follows a script: each start takes the next step, the last one again and again."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        self.steps = list(steps)
        self.starts: list[float] = []

    async def __call__(self, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        self.starts.append(trio.current_time())
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        before = step()
        if before is not None:
            raise AssertionError("a step raises or returns nothing")
        task_status.started(len(self.starts))
        await trio.sleep_forever()


def fail(text: str = "the world broke") -> None:
    raise ServiceFailure(text)


def work() -> None:
    return None


async def advance(clock: MockClock, seconds: int) -> None:
    for _ in range(seconds):
        clock.jump(1)
        await wait_all_tasks_blocked()


def restarts(name: str) -> float:
    return REGISTRY.get_sample_value("p2pd_service_restarts_total", {"service": name}) or 0.0


async def test_failures_are_retried_after_growing_delays(frozen_clock: MockClock, nursery: trio.Nursery) -> None:
    service = Flaky(fail)
    nursery.start_soon(partial(keep_running, service, name="growing"))
    await wait_all_tasks_blocked()
    await advance(frozen_clock, 20)
    assert service.starts == [0, 1, 3, 7, 15]
    assert restarts("growing") == 4
    nursery.cancel_scope.cancel()


async def test_start_waits_through_failures_and_passes_the_value_on(
    frozen_clock: MockClock, nursery: trio.Nursery
) -> None:
    service = Flaky(fail, fail, work)
    reported: list[int] = []

    async def start() -> None:
        reported.append(await nursery.start(partial(keep_running, service, name="waits")))

    nursery.start_soon(start)
    await wait_all_tasks_blocked()
    await advance(frozen_clock, 2)
    assert reported == []
    await advance(frozen_clock, 1)
    assert reported == [3]
    nursery.cancel_scope.cancel()


async def test_good_health_forgives_earlier_failures(frozen_clock: MockClock, nursery: trio.Nursery) -> None:
    fuse = trio.Event()

    async def service(*, task_status: trio.TaskStatus[None]) -> None:
        starts.append(trio.current_time())
        if len(starts) != 3:
            raise ServiceFailure("again")
        task_status.started()
        await fuse.wait()
        raise ServiceFailure("after good health")

    starts: list[float] = []
    nursery.start_soon(partial(keep_running, service, name="healthy", healthy_after=60))
    await wait_all_tasks_blocked()
    await advance(frozen_clock, 3)
    assert starts == [0, 1, 3]
    frozen_clock.jump(60)
    fuse.set()
    await wait_all_tasks_blocked()
    await advance(frozen_clock, 2)
    assert starts == [0, 1, 3, 64]
    nursery.cancel_scope.cancel()


async def test_a_slow_start_is_not_good_health(frozen_clock: MockClock, nursery: trio.Nursery) -> None:
    starts: list[float] = []

    async def service(*, task_status: trio.TaskStatus[None]) -> None:
        starts.append(trio.current_time())
        await trio.sleep(100)
        raise ServiceFailure("never became ready")

    nursery.start_soon(partial(keep_running, service, name="slow", healthy_after=60))
    await wait_all_tasks_blocked()
    await advance(frozen_clock, 210)
    assert starts == [0, 101, 203]
    nursery.cancel_scope.cancel()


async def test_a_bug_escapes() -> None:
    def bug() -> None:
        raise TypeError("our own fault")

    with pytest.raises(BaseExceptionGroup) as escaped:
        await keep_running(Flaky(bug), name="bug")
    assert escaped.group_contains(TypeError, match="our own fault")
    assert restarts("bug") == 0


async def test_a_bug_beside_a_failure_escapes() -> None:
    async def service(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        raise ExceptionGroup("both", [ServiceFailure("world"), TypeError("bug")])

    with pytest.raises(BaseExceptionGroup) as escaped:
        await keep_running(service, name="both")
    assert escaped.group_contains(TypeError)
    assert not escaped.group_contains(ServiceFailure)


async def test_a_service_that_returns_ends_the_loop() -> None:
    async def service(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()

    await keep_running(service, name="done")


async def test_a_failure_while_being_cancelled_is_no_restart(frozen_clock: MockClock) -> None:
    async def service(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            raise ServiceFailure("closing failed")

    with capture_logs() as lines:
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(keep_running, service, name="cancelled"))
            nursery.cancel_scope.cancel()
    assert lines == []
    assert restarts("cancelled") == 0


async def test_the_same_failure_is_told_once(frozen_clock: MockClock, nursery: trio.Nursery) -> None:
    service = Flaky(fail, fail, fail, partial(fail, "something else"), fail)
    with capture_logs() as lines:
        nursery.start_soon(partial(keep_running, service, name="told", restart_delay=lambda failures: 1.0))
        await wait_all_tasks_blocked()
        await advance(frozen_clock, 5)
    assert [line["log_level"] for line in lines] == ["warning", "debug", "debug", "warning", "warning", "debug"]
    assert lines[3]["problem"] == "ServiceFailure: something else"
    assert lines[3]["service"] == "told"
    assert lines[3]["failures"] == 4
    nursery.cancel_scope.cancel()
