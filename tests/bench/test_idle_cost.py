# SPDX-License-Identifier: Apache-2.0
"""What the footprint benchmark reads of a process: this one."""

import mmap
import os
import sys
import time

import pytest

from bench.idle_cost import cost, read_memory, read_running

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_memory_that_is_touched_counts_and_is_our_own() -> None:
    before = read_memory(os.getpid())
    with mmap.mmap(-1, 32 << 20) as block:
        for at in range(0, len(block), mmap.PAGESIZE):
            block[at] = 1
        after = read_memory(os.getpid())
    grown = after.private - before.private
    assert after.resident >= after.proportional >= after.private
    assert grown >= 16 << 20  # shared anonymous pages count as private while nobody shares them


def test_work_counts_as_cpu_and_sleep_does_not() -> None:
    before, began = read_running(os.getpid()), time.thread_time()
    while time.thread_time() < began + 0.1:
        pass
    spent = cost("busy", os.getpid(), before)
    assert spent.cpu_percent * spent.seconds / 100 >= 0.05
    assert spent.wakeups_per_second > 0
    assert spent.peak_rss_bytes >= spent.rss_bytes // 2
    assert spent.as_json()["contender"] == "busy"
