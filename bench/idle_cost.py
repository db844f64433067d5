# SPDX-License-Identifier: Apache-2.0
"""What a process that does nothing costs: resident memory, CPU, wake-ups. Linux only.

CPU comes from the scheduler in nanoseconds (`/proc/PID/task/*/schedstat`): clock ticks of 10 ms would be most of what
there is to measure. A thread that ended in between takes its share with it, which is the last that an idle one does.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

_KIB = 1024


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes. `resident` counts shared library pages in full, `proportional` by the number of processes that share."""

    resident: int
    proportional: int
    private: int


@dataclass(frozen=True, kw_only=True)
class Running:
    """CPU nanoseconds and turns on a core since the start, by thread, at a monotonic moment in seconds."""

    at: float
    threads: Mapping[int, tuple[int, int]]

    @property
    def cpu_seconds(self) -> float:
        """Of all threads that live."""
        return sum(nanoseconds for nanoseconds, _ in self.threads.values()) / 1e9


@dataclass(frozen=True, kw_only=True)
class IdleCost:
    """Over `seconds`: percent of one core, and how often per second a thread of it got a core."""

    contender: str
    rss_bytes: int
    pss_bytes: int
    private_bytes: int
    peak_rss_bytes: int
    cpu_percent: float
    wakeups_per_second: float
    threads: int
    seconds: float

    def as_json(self) -> dict[str, object]:
        """With the scene that the results of all benchmarks name."""
        return {"scene": "footprint", **asdict(self)}


def read_memory(pid: int) -> Memory:
    """Memory of a process now."""
    found: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, size = line.split()[:2]
        found[name.rstrip(":")] = int(size) * _KIB
    private = found["Private_Clean"] + found["Private_Dirty"]
    return Memory(resident=found["Rss"], proportional=found["Pss"], private=private)


def read_peak(pid: int) -> int:
    """The most resident bytes that a process ever had."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * _KIB


def read_running(pid: int) -> Running:
    """What all threads of a process have run so far."""
    threads: dict[int, tuple[int, int]] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            nanoseconds, _, turns = (task / "schedstat").read_text().split()
        except FileNotFoundError:
            continue  # it has just ended
        threads[int(task.name)] = int(nanoseconds), int(turns)
    return Running(at=time.monotonic(), threads=threads)


def cost(contender: str, pid: int, before: Running) -> IdleCost:
    """What the process has cost since `before`."""
    after, memory = read_running(pid), read_memory(pid)
    seconds = after.at - before.at
    spent = [
        (nanoseconds - before.threads.get(thread, (0, 0))[0], turns - before.threads.get(thread, (0, 0))[1])
        for thread, (nanoseconds, turns) in after.threads.items()
    ]
    return IdleCost(
        contender=contender,
        rss_bytes=memory.resident,
        pss_bytes=memory.proportional,
        private_bytes=memory.private,
        peak_rss_bytes=read_peak(pid),
        cpu_percent=round(sum(nanoseconds for nanoseconds, _ in spent) / seconds / 1e7, 4),
        wakeups_per_second=round(sum(turns for _, turns in spent) / seconds, 2),
        threads=len(after.threads),
        seconds=round(seconds, 1),
    )
