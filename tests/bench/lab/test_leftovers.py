# SPDX-License-Identifier: Apache-2.0
"""Nothing of a lab stays behind, however it ends."""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.lab import delay, shaping
from bench.lab.commands import LabError
from bench.lab.leftovers import existing, processes_in, remove_leftovers
from bench.lab.network import build
from bench.lab.topology import LinkSpec, SiteSpec, Topology
from tests.bench.lab.probes import END_SECONDS

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("possible")]
PROJECT = Path(__file__).parents[3]
SMALL = Topology(sites=(SiteSpec(name="lan", hosts=1),))
DELAYED = Topology(sites=(SiteSpec(name="far", hosts=1, wan=LinkSpec(delay_ms=1)),))
STANDING = """
import json, subprocess, sys, time
from bench.lab.network import build
from bench.lab.topology import LinkSpec, SiteSpec, Topology
with build(Topology(sites=(SiteSpec(name="far", hosts=1, wan=LinkSpec(delay_ms=1)),))) as network:
    code = "import time; print(flush=True); time.sleep(600)"
    sleeper = subprocess.Popen(network.origin.argv([sys.executable, "-c", code]), stdout=subprocess.PIPE)
    sleeper.stdout.readline()
    print(json.dumps([network.bridge, *(host.namespace for host in network.hosts)]), flush=True)
    time.sleep(600)
"""


def ours() -> list[str]:
    return [name for name in existing() if name.startswith(f"p2pd-lab-{os.getpid()}-")]


@contextmanager
def standing() -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A process with a lab that stands, and the names of its namespaces."""
    argv = [sys.executable, "-c", STANDING]
    with subprocess.Popen(argv, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


def await_end(pids: list[int]) -> None:
    """Return when none of these processes runs any more."""
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            assert select.select([descriptor], [], [], END_SECONDS)[0], f"process {pid} still runs"
        finally:
            os.close(descriptor)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_takes_all_of_it_down(number: signal.Signals) -> None:
    with standing() as (process, namespaces):
        inside = processes_in(namespaces)
        assert len(inside) == 2, "the sleeper and the delay line"
        process.send_signal(number)
        assert process.wait(END_SECONDS) != 0
    assert set(namespaces) & set(existing()) == set()
    await_end(inside)


def test_what_a_killed_run_left_goes_with_the_next() -> None:
    with standing() as (process, namespaces):
        inside = processes_in(namespaces)
        remove_leftovers()
        assert set(namespaces) <= set(existing()), "it is alive"
        process.kill()
        process.wait(END_SECONDS)
        assert set(namespaces) <= set(existing())
        with build(SMALL):
            assert set(namespaces) & set(existing()) == set()
        await_end(inside)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_stays_whatever_happens_inside(error: type[BaseException]) -> None:
    def fail_in_a_lab() -> None:
        with build(DELAYED):
            assert len(ours()) == 4
            raise error

    with pytest.raises(error):
        fail_in_a_lab()
    assert ours() == []


def test_two_labs_at_once_are_two_networks() -> None:
    with build(SMALL) as one, build(SMALL) as two:
        assert one.origin.namespace != two.origin.namespace
        assert {one.origin.namespace, two.origin.namespace} <= set(existing())
    assert ours() == []


def test_a_lab_that_cannot_be_finished_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        shaping, "qdisc", lambda interface, rate, queue_ms: f"qdisc replace dev {interface} root nosuch"
    )
    with pytest.raises(LabError, match="nosuch"), build(DELAYED):
        pass
    assert ours() == []


def test_a_delay_line_that_ended_is_an_error() -> None:
    with build(DELAYED) as network:
        for pid in processes_in([network.bridge]):
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(LabError, match="delay line has ended with exit code -9"):
            network.links["far-wan"].change(delay_ms=2)
    assert ours() == []


def test_a_delay_line_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setattr(delay, "_PROJECT", tmp_path)
    with pytest.raises(LabError, match=r"exit code 1: .*No module named 'bench'"), build(DELAYED):
        pass
    assert ours() == []
