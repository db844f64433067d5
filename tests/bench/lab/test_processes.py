# SPDX-License-Identifier: Apache-2.0
"""Processes that are counted to the last and gone at the end; with real ones."""

import os
import sys
from pathlib import Path

import pytest
import trio

from bench.lab.processes import ProcessFailed, open_processes, parse_cpu_seconds, parse_peak_bytes
from bench.lab.waiting import eventually

BURN = "import time\nwhile time.process_time() < 0.2: pass\n"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN!r}], check=True)"
SLEEP = "import time; time.sleep(600)"
SECONDS = 60.0


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


@pytest.mark.parametrize("code", [BURN, PARENT])
async def test_cpu_seconds_of_one_that_has_ended_are_known_with_its_childrens(code: str, tmp_path: Path) -> None:
    async with open_processes() as processes:
        process = await processes.start(python(code), log=tmp_path / "log", name="burner", may_end=True)
        with trio.fail_after(SECONDS):
            await process.ended.wait()
        assert process.status == 0
        assert process.ended_unix is not None
        assert process.cpu_seconds() >= 0.2


async def test_one_that_lives_is_seen_while_it_does_and_is_gone_afterwards(tmp_path: Path) -> None:
    async with open_processes() as processes:
        process = await processes.start(python(SLEEP), log=tmp_path / "log", name="sleeper")

        async def has_memory() -> bool:
            return process.peak_bytes() >= 1_000_000

        with trio.fail_after(SECONDS):
            await eventually(has_memory)
        assert process.cpu_seconds() >= 0
    assert process.ended.is_set()
    assert process.peak_bytes() >= 1_000_000, "what was seen last"
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


async def test_one_that_was_not_to_end_is_a_failure_that_shows_its_log(tmp_path: Path) -> None:
    async def live_on() -> None:
        async with open_processes() as processes:
            await processes.start(
                python("print('no disk'); raise SystemExit(3)"), log=tmp_path / "log", name="the daemon"
            )
            await trio.sleep(SECONDS)

    with pytest.RaisesGroup(pytest.RaisesExc(ProcessFailed, match=r"the daemon ended by itself with 3: no disk")):
        await live_on()


async def test_killing_and_stopping(tmp_path: Path) -> None:
    async with open_processes() as processes:
        killed = await processes.start(python(SLEEP), log=tmp_path / "one", name="one")
        await killed.kill()
        assert killed.status == -9
        stopped = await processes.start(python(SLEEP), log=tmp_path / "two", name="two")
        with pytest.raises(ProcessFailed, match="two ended with -15"):
            await stopped.stop()


async def test_what_is_told_arrives(tmp_path: Path) -> None:
    async with open_processes() as processes:
        process = await processes.start(
            python("print(input())"), log=tmp_path / "log", name="reader", may_end=True, stdin=True
        )
        await process.tell(b"go\n")
        with trio.fail_after(SECONDS):
            await process.ended.wait()
        assert process.tail() == "go\n"


async def test_a_command_and_what_it_says() -> None:
    async with open_processes() as processes:
        done = await processes.run(python("import sys; print(input()); sys.exit('no')"), stdin=b"yes\n")
    assert (done.status, done.output, done.errors) == (1, "yes\n", "no\n")


def test_figures_out_of_proc() -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    stat = f"7 (a (strange) name) S 1 7 7 0 -1 4194304 1 2 3 4 {ticks} {2 * ticks} {ticks // 2} {ticks // 2} 20 0 1 0"
    assert parse_cpu_seconds(stat) == 4.0
    assert parse_peak_bytes("Name:\tx\nVmPeak:\t  900 kB\nVmHWM:\t  512 kB\n") == 524_288
    assert parse_peak_bytes("Name:\tzombie\n") == 0
