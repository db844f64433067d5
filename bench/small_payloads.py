# SPDX-License-Identifier: Apache-2.0
"""Many small payloads to several endpoints on an unshaped flat LAN: `python -m bench.small_payloads --count 1000`.

Side by side: p2pd (mutual TLS, signatures, every state durable; up to `verified`, since nothing else installs), plain
libtorrent with a torrent for each payload, and nginx with one curl per endpoint over one kept connection. Seconds are
from the signal to the last payload at the last endpoint, CPU seconds are user and system time of all processes.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import libtorrent as lt
import trio

from bench.lab.administrator import OFFLINE, SEGMENT, Template
from bench.lab.fleet import LabFleet
from bench.lab.network import Network, build
from bench.lab.processes import open_processes, parse_cpu_seconds
from bench.lab.programs import found, module
from bench.lab.topology import SiteSpec, Topology
from seeds.commands.publication import shelf_of, sign_role
from seeds.fleet import open_fleet
from seeds.services.building import PatchWish, build_patch
from seeds.services.publishing import BuiltPatch, stage_patches

LEAST_BYTES, MOST_BYTES = 1_000, 40_000
LIMIT_SECONDS = 280.0
PORT, ORIGIN = 8089, "127.77.0.1"
VERSION = "1.0"


@dataclass(frozen=True, kw_only=True)
class Result:
    """One contender's run. `copies` are payload bytes out of the origin, in payloads."""

    scene: str
    contender: str
    count: int
    endpoints: int
    payload_bytes: int
    seconds: float
    cpu_seconds: float
    copies: float
    prepare_seconds: float


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is to be brought to whom."""

    count: int
    endpoints: int
    directory: Path
    total: int

    def result(self, contender: str, *, seconds: float, cpu: float, copies: float, prepare: float) -> Result:
        """A row of the table."""
        return Result(
            scene="small-payloads",
            contender=contender,
            count=self.count,
            endpoints=self.endpoints,
            payload_bytes=self.total,
            seconds=round(seconds, 2),
            cpu_seconds=round(cpu, 2),
            copies=round(copies, 3),
            prepare_seconds=round(prepare, 2),
        )


def make_load(directory: Path, count: int, endpoints: int) -> Load:
    """Files of random bytes, of random sizes."""
    directory.mkdir()
    chance = random.Random(count)  # noqa: S311 (content, not keys)
    total = 0
    for number in range(count):
        data = chance.randbytes(chance.randint(LEAST_BYTES, MOST_BYTES))
        (directory / f"small-{number:05d}").write_bytes(data)
        total += len(data)
    return Load(count=count, endpoints=endpoints, directory=directory, total=total)


def run_nginx(load: Load, scratch: Path) -> Result:
    """One nginx; one curl per endpoint, all URLs in one process over one connection."""
    (scratch / "nginx.conf").write_text(
        "daemon off; user root; worker_processes 1; pid nginx.pid; events { worker_connections 1024; }\n"
        "http { log_format bytes '$body_bytes_sent'; access_log access.log bytes; sendfile on;"
        " keepalive_requests 100000;"
        f" server {{ listen {ORIGIN}:{PORT}; root '{load.directory}'; }} }}\n"
    )
    with _children() as children:
        children.start([found("nginx"), "-p", str(scratch), "-e", "error.log", "-c", "nginx.conf"])
        time.sleep(0.5)  # it says nothing when it is ready
        began = time.monotonic()
        curls = []
        for number in range(load.endpoints):
            into = scratch / f"endpoint-{number}"
            into.mkdir()
            urls = scratch / f"urls-{number}"
            urls.write_text(
                "".join(
                    f'url = "http://{ORIGIN}:{PORT}/{file.name}"\noutput = "{into / file.name}"\n'
                    for file in sorted(load.directory.iterdir())
                )
            )
            curls.append(children.start([found("curl"), "-sSf", "--fail-early", "-K", str(urls)]))
        for curl in curls:
            if curl.wait(LIMIT_SECONDS) != 0:
                raise SystemExit(f"curl ended with {curl.returncode}")
        seconds = time.monotonic() - began
        cpu = children.cpu_seconds()
    sent = sum(map(int, (scratch / "access.log").read_text().split()))
    return load.result("nginx+curl", seconds=seconds, cpu=cpu, copies=sent / load.total, prepare=0)


def run_libtorrent(load: Load, scratch: Path) -> Result:
    """One seed, one process per endpoint, a torrent for each payload; everybody is told of everybody."""
    torrents = scratch / "torrents"
    torrents.mkdir()
    began = time.monotonic()
    for file in load.directory.iterdir():
        entries = lt.list_files(str(file))
        torrent = lt.create_torrent(entries, 0, lt.create_torrent.v2_only)
        lt.set_piece_hashes(torrent, str(file.parent))
        (torrents / file.name).write_bytes(lt.bencode(torrent.generate()))
    prepare = time.monotonic() - began
    addresses = [f"127.77.0.{1 + number}" for number in range(load.endpoints + 1)]
    with _children() as children:
        peers = []
        for number, address in enumerate(addresses):
            save = load.directory if number == 0 else scratch / f"endpoint-{number}"
            save.mkdir(exist_ok=True)
            others = ",".join(other for other in addresses[:number]) or "127.77.0.254"
            argv = module("bench.many_torrents", torrents, save, address, others)
            peers.append(children.start(argv, talks=True))
        for peer in peers:
            _expect(peer, "ready")
        before, began = children.cpu_seconds(), time.monotonic()
        for peer in peers:
            _tell(peer)
        for peer in peers:
            _expect(peer, "done")
        seconds, cpu = time.monotonic() - began, children.cpu_seconds() - before
        _tell(peers[0])
        sent = int(_line(peers[0]))
    return load.result("libtorrent", seconds=seconds, cpu=cpu, copies=sent / load.total, prepare=prepare)


def run_p2pd(load: Load, scratch: Path) -> Result:
    """A coordinator and an agent per endpoint, each in its own network namespace."""
    topology = Topology(sites=(SiteSpec(name="lan", hosts=load.endpoints),))
    with build(topology) as network:
        return trio.run(partial(_run_p2pd, load, scratch, network))


async def _run_p2pd(load: Load, scratch: Path, network: Network) -> Result:
    template = Template(scratch / "template", network.origin.address)
    built, prepare = await trio.to_thread.run_sync(_build, load, scratch, template)
    async with open_processes() as processes:
        fleet = LabFleet(network, template, scratch / "run", processes)
        await fleet.start()
        began = time.monotonic()
        await trio.to_thread.run_sync(_stage, fleet, built)
        prepare += time.monotonic() - began
        daemons = [endpoint.daemon for endpoint in fleet.endpoints if endpoint.daemon] + [fleet.coordinator]
        before, began = sum(process.cpu_seconds() for process in daemons if process), time.monotonic()
        await fleet.administrator.publish()
        with trio.fail_after(LIMIT_SECONDS):
            while not all(_verified(endpoint.log) >= load.count for endpoint in fleet.endpoints):  # noqa: ASYNC110 (logs raise no event)
                await trio.sleep(0.5)
        seconds = time.monotonic() - began
        cpu = sum(process.cpu_seconds() for process in daemons if process) - before
        sent = await fleet.served_payload_bytes()
    total = sum(patch.manifest.transports[0].content.size for patch in built)
    return load.result("p2pd", seconds=seconds, cpu=cpu, copies=sent / total, prepare=prepare)


def _build(load: Load, scratch: Path, template: Template) -> tuple[list[BuiltPatch], float]:
    authorities = {SEGMENT: open_fleet(template.directory).read_segment_certificate(SEGMENT)}
    began, built = time.monotonic(), []
    for file in sorted(load.directory.iterdir()):
        source = scratch / "source"
        source.mkdir()
        shutil.copy(file, source)
        wish = PatchWish(product=file.name, version=VERSION, release_counter=1)
        into = scratch / "built" / file.name
        patch, _ = build_patch(wish, source, into=into, segment_authorities=authorities)
        built.append(patch)
        shutil.rmtree(source)
    return built, time.monotonic() - began


def _stage(fleet: LabFleet, built: Sequence[BuiltPatch]) -> None:
    administrator = fleet.administrator
    stage_patches(administrator.repository, shelf_of(administrator.fleet), built, now=datetime.now(UTC))
    sign_role(administrator.fleet, administrator.repository, "patches", OFFLINE.encode())


def _verified(log: Path) -> int:
    return log.read_bytes().count(b'"state": "verified"')


class _Children:
    """Processes of one run, and what they have cost."""

    def __init__(self) -> None:
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, argv: Sequence[str], *, talks: bool = False) -> "subprocess.Popen[bytes]":
        """Start a process, which may be told and tell lines."""
        pipe = subprocess.PIPE if talks else None
        self.running.append(subprocess.Popen(argv, stdin=pipe, stdout=pipe))
        return self.running[-1]

    def cpu_seconds(self) -> float:
        """Of those that were started, and their children."""
        children = os.times()
        return children.children_user + children.children_system + sum(map(_cpu_of, self.running))


@contextmanager
def _children() -> Iterator[_Children]:
    children = _Children()
    try:
        yield children
    finally:
        for child in children.running:
            child.terminate()  # killed, nginx would leave its worker behind
        for child in children.running:
            child.wait(10)
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    pipe.close()


def _cpu_of(child: "subprocess.Popen[bytes]") -> float:
    if child.returncode is not None:
        return 0.0  # counted among the children that were waited for
    return sum(parse_cpu_seconds(stat.read_text()) for stat in [Path(f"/proc/{pid}/stat") for pid in _tree(child.pid)])


def _tree(pid: int) -> list[int]:
    below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(inner for child in below for inner in _tree(int(child)))]


def _tell(child: "subprocess.Popen[bytes]") -> None:
    assert child.stdin is not None
    child.stdin.write(b"\n")
    child.stdin.flush()


def _line(child: "subprocess.Popen[bytes]") -> str:
    assert child.stdout is not None
    return child.stdout.readline().decode().strip()


def _expect(child: "subprocess.Popen[bytes]", word: str) -> None:
    said = _line(child)
    if said != word:
        raise SystemExit(f"a child said {said!r} in the place of {word!r}")


CONTENDERS: dict[str, Callable[[Load, Path], Result]] = {
    "p2pd": run_p2pd,
    "libtorrent": run_libtorrent,
    "nginx+curl": run_nginx,
}


def table(results: Sequence[Result]) -> str:
    """The results in Markdown."""
    lines = [
        "| contender | payloads | endpoints | seconds | CPU s, all | CPU ms per payload and endpoint | origin copies |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        each = result.cpu_seconds / result.count / result.endpoints * 1_000
        lines.append(
            f"| {result.contender} | {result.count} | {result.endpoints} | {result.seconds:.1f} "
            f"| {result.cpu_seconds:.1f} | {each:.2f} | {result.copies:.2f} |"
        )
    return "\n".join(lines)


def merged(kept: Sequence[dict[str, Any]], results: Sequence[Result]) -> list[dict[str, Any]]:
    """The newest run of each size and contender, ordered by size."""
    rows = {_size_of(row): row for row in (*kept, *map(asdict, results))}
    return [rows[size] for size in sorted(rows)]


def _size_of(row: dict[str, Any]) -> tuple[int, int, str]:
    return row["count"], row["endpoints"], row["contender"]


def main() -> None:
    """Run the contenders one after the other, print the table, and put the runs beside those of other sizes."""
    parser = argparse.ArgumentParser(prog="python -m bench.small_payloads", description=__doc__)
    parser.add_argument("--count", type=int, default=1_000, help="payloads, each of a product of its own")
    parser.add_argument("--endpoints", type=int, default=10)
    parser.add_argument("--only", choices=sorted(CONTENDERS), action="append", help="may repeat; default: all")
    parser.add_argument("--output", type=Path, default=Path("bench/results/small_payloads.json"))
    wanted = parser.parse_args()
    results = []
    for name in wanted.only or CONTENDERS:
        with tempfile.TemporaryDirectory(prefix="small-payloads-") as directory:
            load = make_load(Path(directory) / "load", wanted.count, wanted.endpoints)
            scratch = Path(directory) / "scratch"
            scratch.mkdir()
            results.append(CONTENDERS[name](load, scratch))
    wanted.output.parent.mkdir(parents=True, exist_ok=True)
    kept = json.loads(wanted.output.read_text()) if wanted.output.exists() else []
    wanted.output.write_text(json.dumps(merged(kept, results), indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
