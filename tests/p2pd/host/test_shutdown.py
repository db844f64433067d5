# SPDX-License-Identifier: Apache-2.0
"""Tests of p2pd.host.shutdown: in this process where it lives on, in others where they die."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio

from p2pd.host.shutdown import run_until_signalled
from signing.errors import BadInput


async def test_it_returns_when_main_does() -> None:
    async def main() -> None:
        await trio.lowlevel.checkpoint()

    assert await run_until_signalled(main, drain_seconds=1) is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_cancels_main_and_is_told(number: signal.Signals) -> None:
    steps: list[str] = []

    async def main() -> None:
        try:
            os.kill(os.getpid(), number)
            await trio.sleep_forever()
        finally:
            steps.append("drained")

    with trio.fail_after(30):
        assert await run_until_signalled(main, drain_seconds=5) is number
    assert steps == ["drained"]


async def test_handlers_are_put_back() -> None:
    async def main() -> None:
        await trio.lowlevel.checkpoint()

    before = signal.getsignal(signal.SIGTERM)
    await run_until_signalled(main, drain_seconds=1)
    assert signal.getsignal(signal.SIGTERM) is before


async def test_errors_of_main_come_out_as_they_are() -> None:
    async def main() -> None:
        raise BadInput("p2pd.toml", "unknown key")

    with pytest.raises(BadInput, match="unknown key"):
        await run_until_signalled(main, drain_seconds=1)


async def test_cancelling_from_outside_is_passed_on() -> None:
    with trio.move_on_after(0) as scope:
        await run_until_signalled(trio.sleep_forever, drain_seconds=1)
    assert scope.cancelled_caught


_STUCK = """
import sys, trio
from p2pd.host.shutdown import run_until_signalled

async def main():
    try:
        print("ready", flush=True)
        await trio.sleep_forever()
    finally:
        print("stuck", flush=True)
        with trio.CancelScope(shield=True):
            await trio.sleep(60)

trio.run(lambda: run_until_signalled(main, drain_seconds=float(sys.argv[1])))
"""


@contextmanager
def stuck_process(drain_seconds: float) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that has been asked to stop and hangs in a shield."""
    command = [sys.executable, "-c", _STUCK, str(drain_seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"ready\n"
            process.send_signal(signal.SIGTERM)
            assert process.stdout.readline() == b"stuck\n"
            yield process
        finally:
            process.kill()


def test_a_second_signal_ends_the_process_at_once() -> None:
    with stuck_process(drain_seconds=60) as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=50) == -signal.SIGINT


def test_a_stuck_shutdown_ends_after_the_drain() -> None:
    with stuck_process(drain_seconds=0.05) as process:
        assert process.wait(timeout=50) == -signal.SIGTERM
