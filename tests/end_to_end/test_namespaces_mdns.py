# SPDX-License-Identifier: Apache-2.0
"""Hosts on one bridge, and processes on one loopback device, find each other by mDNS."""

import json
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio

from bench.lab.network import Network, build, why_not_available
from bench.lab.topology import LinkSpec, SiteSpec, Topology

PROJECT = Path(__file__).parents[2]
# Takes a second, nearly all of it Python starting. Where others flood this machine's loopback device, an announcement may
# be lost with its repetitions; it is heard when somebody asks for it anew, after 45 to 51 s.
NOTICED_SECONDS = 75.0


@dataclass
class Watcher:
    """A process that runs tests.end_to_end.lan_watcher."""

    address: str
    port: int
    process: trio.Process
    tag: str
    lines: trio.MemoryReceiveChannel[dict[str, Any]]
    seen: dict[str, dict[str, Any]] = field(default_factory=dict)

    async def sees(self, others: Sequence["Watcher"]) -> None:
        """Return when exactly `others` of ours are in sight, each as it announced itself."""
        wanted = {(other.address, other.port, other.tag) for other in others}
        with trio.fail_after(NOTICED_SECONDS):
            while self._in_sight() != wanted:
                line = await self.lines.receive()
                if "departed" in line:
                    self.seen.pop(line["departed"], None)
                else:
                    self.seen[line["instance"]] = line

    def _in_sight(self) -> set[tuple[str, int, str]]:
        # Whoever else runs p2pd on this machine's loopback device is none of ours.
        return {(line["host"], line["port"], line["tags"][0]) for line in self.seen.values() if line["port"] in PORTS}


_FIRST_PORT = 20_000 + secrets.randbelow(40_000)  # announced only, never bound; two test runs do not meet
PORTS = range(_FIRST_PORT, _FIRST_PORT + 9)


@asynccontextmanager
async def watching(argv_prefix: Sequence[str], address: str, port: int) -> AsyncIterator[Watcher]:
    tag = secrets.token_hex(8)
    argv = [*argv_prefix, sys.executable, "-m", "tests.end_to_end.lan_watcher", address, str(port), tag]
    send, receive = trio.open_memory_channel[dict[str, Any]](100)
    async with trio.open_nursery() as nursery:
        process = await trio.lowlevel.open_process(argv, cwd=PROJECT, stdout=subprocess.PIPE)
        try:
            nursery.start_soon(_pass_on, process, send)
            yield Watcher(address=address, port=port, process=process, tag=tag, lines=receive)
            process.terminate()
            with trio.fail_after(NOTICED_SECONDS):
                assert await process.wait() == 0
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + NOTICED_SECONDS):
                process.kill()
                await process.wait()
            nursery.cancel_scope.cancel()


async def _pass_on(process: trio.Process, send: trio.MemorySendChannel[dict[str, Any]]) -> None:
    assert process.stdout is not None
    buffer = b""
    async for chunk in process.stdout:
        *lines, buffer = (buffer + chunk).split(b"\n")
        for line in lines:
            await send.send(json.loads(line))


@pytest.fixture
def lab() -> Iterator[Network]:
    """A LAN of three hosts with the origin, and a site of one host behind a router."""
    reason = why_not_available()
    if reason is not None:
        pytest.skip(reason)
    lan, branch = SiteSpec(name="lan", hosts=3), SiteSpec(name="branch", hosts=1, wan=LinkSpec())
    with build(Topology(sites=(lan, branch))) as built:
        yield built


@pytest.mark.root
async def test_three_hosts_on_a_lan_see_each_other_and_nobody_behind_a_router(lab: Network) -> None:
    lan, branch = lab.sites
    one, two, three = lan.hosts
    (far,) = branch.hosts
    async with (
        watching(far.argv([]), far.address, PORTS[7]) as alone,
        watching(one.argv([]), one.address, PORTS[1]) as first,
        watching(two.argv([]), two.address, PORTS[2]) as second,
    ):
        await first.sees([second])
        await second.sees([first])
        async with watching(three.argv([]), three.address, PORTS[3]) as third:
            await third.sees([first, second])
            await first.sees([second, third])
            await second.sees([first, third])
        await first.sees([second])
        await second.sees([first])
        await alone.sees([])


async def test_processes_on_one_machine_see_each_other_by_loopback_addresses() -> None:
    async with (
        watching([], "127.0.0.2", PORTS[4]) as first,
        watching([], "127.0.0.3", PORTS[5]) as second,
        watching([], "127.0.0.7", PORTS[6]) as third,
    ):
        await first.sees([second, third])
        await second.sees([first, third])
        await third.sees([first, second])
