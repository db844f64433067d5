# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.footprint`: what an idle agent costs beside idle libtorrent, aria2 and transmission.

The agent has enrolled, has completed a transfer, and has `--peers` real agents around it, all connected. The others
each seed one torrent of the same size to nobody. All are looked at over the same minute.
"""

import argparse
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import trio

from bench.idle_cost import IdleCost, cost, read_running
from bench.idle_seeders import make_plain_torrent, seeder_commands
from bench.loopback_fleet import loopback_fleet

RESULTS = Path(__file__).parent / "results"
PAYLOAD_BYTES = 1_000_000
SETTLE_SECONDS = 90.0  # after the transfer: reports, schedules that answer them, and its rest
END_SECONDS = 10.0


async def measure(peers: int, seconds: float) -> list[IdleCost]:
    """All contenders, the agent first."""
    with tempfile.TemporaryDirectory(prefix="p2pd-footprint-") as scratch:
        directory = Path(scratch)
        for name in ("fleet", "release", "seeds"):
            (directory / name).mkdir()
        (directory / "release" / "data").write_bytes(os.urandom(PAYLOAD_BYTES))
        with _seeders(directory / "seeds") as others:
            async with loopback_fleet(directory / "fleet", agents=peers + 1) as fleet:
                await fleet.acquainted()
                await fleet.release("1.0", directory / "release")
                await fleet.reach("1.0", "committed", seconds=120)
                await trio.sleep(SETTLE_SECONDS)
                pids = {"p2pd": fleet.daemon_pid(0), **others}
                before = {name: read_running(pid) for name, pid in pids.items()}
                await trio.sleep(seconds)
                return [cost(name, pid, before[name]) for name, pid in pids.items()]


@contextmanager
def _seeders(directory: Path) -> Iterator[Mapping[str, int]]:
    """Process ids of the others, which end with the block."""
    payload, torrent = directory / "payload", directory / "payload.torrent"
    payload.write_bytes(os.urandom(PAYLOAD_BYTES))
    torrent.write_bytes(make_plain_torrent(payload))
    started: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, argv in seeder_commands(directory, torrent, host="127.77.77.1").items():
            with (directory / f"{name}.log").open("wb") as log:
                started[name] = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        yield {name: process.pid for name, process in started.items()}
    finally:
        for process in started.values():
            process.terminate()
        for process in started.values():
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def table(costs: Sequence[IdleCost]) -> str:
    """For people; megabytes are 1,000,000 bytes."""
    lines = [
        "| idle | resident MB | proportional MB | private MB | CPU, % of a core | wake-ups/s | threads |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in costs:
        memory = (each.rss_bytes, each.pss_bytes, each.private_bytes)
        shown = " | ".join(f"{size / 1e6:.1f}" for size in memory)
        lines.append(
            f"| {each.contender} | {shown} | {each.cpu_percent:.3f} | {each.wakeups_per_second:.1f} | {each.threads} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run, print, and write `bench/results/footprint.json`."""
    parser = argparse.ArgumentParser(prog="python -m bench.footprint", description=__doc__)
    parser.add_argument("--peers", type=int, default=50, help="real agents around the one that is measured")
    parser.add_argument("--seconds", type=float, default=60.0)
    asked = parser.parse_args()
    costs = trio.run(partial(measure, asked.peers, asked.seconds))
    print(table(costs))
    RESULTS.mkdir(exist_ok=True)
    shown = [each.as_json() | {"peers": asked.peers} for each in costs]
    (RESULTS / "footprint.json").write_text(json.dumps(shown, indent=2) + "\n")


if __name__ == "__main__":
    main()
