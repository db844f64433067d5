# SPDX-License-Identifier: Apache-2.0
"""Runs one contender once: waits until it is idle, gives the signal, watches it to the end, and counts what it cost."""

import time
from collections.abc import Callable, Mapping, Sequence

import trio

from bench.contenders.contender import Contender, Entry, Stage
from bench.lab.network import Network
from bench.lab.processes import LabProcess
from bench.outcome import Cost, Outcome

LOOK_SECONDS = 0.2
MEMORY_SECONDS = 1.0  # between looks at memory, which cost a read of /proc for every process
IDLE_SECONDS = 2.0  # before the signal, in which the idle cost is measured
CAP_LIMITS = 12.0  # a run is ended after that many times the physical limit …
LEAST_CAP_SECONDS = 60.0  # … but no earlier than this: daemons need time to find each other, whatever the payload

OnLook = Callable[[float, Mapping[str, float]], None]
"""Told the seconds since the signal, and when each endpoint finished, in seconds after it."""


def say_nothing(_seconds: float, _finished: Mapping[str, float]) -> None:
    """Nobody watches."""


async def run_once(contender: Contender, stage: Stage, *, on_look: OnLook = say_nothing) -> Outcome:
    """One run in a lab that is built. Raises ProcessFailed when something ends that should not."""
    async with contender.prepare(stage) as entry:
        idle = await _idle_share(entry)
        links = _link_bytes(stage.network)
        costs = _Costs(entry)
        limit = stage.scene.limit_seconds(entry.payload_bytes)
        cap = max(LEAST_CAP_SECONDS, CAP_LIMITS * limit)
        watch = _Watch(entry, stage, kill_after=limit / 2 if stage.scene.kills_busiest else None, on_look=on_look)
        await watch.race(cap, costs)
        endpoints, origin = costs.endpoints(), costs.origin()
        passed = {name: _passed(links[name], now) for name, now in _link_bytes(stage.network).items()}
        return Outcome(
            scene=stage.scene.name,
            contender=contender.name,
            payload_bytes=entry.payload_bytes,
            limit_seconds=limit,
            cap_seconds=cap,
            finished={name: watch.finished.get(name) for name in watch.expected},
            endpoints=endpoints,
            origin=origin,
            idle_cpu_share=idle,
            link_bytes=passed,
            origin_payload_bytes=await entry.origin_payload_bytes(),
            busiest_wan_bytes=_busiest_wan(stage.network, passed),
            killed=watch.killed,
        )


class _Watch:
    """The race itself."""

    def __init__(self, entry: Entry, stage: Stage, *, kill_after: float | None, on_look: OnLook) -> None:
        self.expected = [host.name for host in stage.hosts]
        self.finished: dict[str, float] = {}
        self.killed: tuple[str, ...] = ()
        self._entry = entry
        self._kill_after = kill_after
        self._on_look = on_look

    async def race(self, cap: float, costs: "_Costs") -> None:
        """Return when every endpoint that lives has finished, or when the time is up."""
        began, clock = await self._entry.start(), trio.current_time()
        memory_at = clock
        while (now := trio.current_time()) - clock < cap:
            self.finished = {name: unix - began for name, unix in self._entry.finished().items()}
            self._on_look(time.time() - began, self.finished)
            if all(name in self.finished for name in self.expected):
                return
            if now >= memory_at:
                costs.look_at_memory()
                memory_at = now + MEMORY_SECONDS
            if self._kill_after is not None and not self.killed and now - clock >= self._kill_after:
                await self._kill_busiest()
            await trio.sleep(LOOK_SECONDS)

    async def _kill_busiest(self) -> None:
        name = await self._entry.busiest()
        await self._entry.kill(name)
        self.killed = (name,)
        self.expected.remove(name)


class _Costs:
    """What the processes of an entry had cost before the race, to be taken off what they cost after it."""

    def __init__(self, entry: Entry) -> None:
        self._entry = entry
        self._before = {process.pid: process.cpu_seconds() for process in _processes(entry)}

    def look_at_memory(self) -> None:
        """Of processes that may end before the race does."""
        for process in _processes(self._entry):
            process.peak_bytes()

    def endpoints(self) -> dict[str, Cost]:
        """By endpoint."""
        return {name: self._cost(processes) for name, processes in self._entry.endpoint_processes.items()}

    def origin(self) -> Cost:
        """Of the origin."""
        return self._cost(self._entry.origin_processes)

    def _cost(self, processes: Sequence[LabProcess]) -> Cost:
        return Cost(
            cpu_seconds=sum(process.cpu_seconds() - self._before.get(process.pid, 0.0) for process in processes),
            peak_rss_bytes=sum(process.peak_bytes() for process in processes),
        )


def _processes(entry: Entry) -> list[LabProcess]:
    return [*entry.origin_processes, *(process for own in entry.endpoint_processes.values() for process in own)]


async def _idle_share(entry: Entry) -> float:
    """Of one core, by an endpoint on average; 0 where nothing runs before the race."""
    daemons = [process for own in entry.endpoint_processes.values() for process in own]
    before, began = sum(process.cpu_seconds() for process in daemons), trio.current_time()
    await trio.sleep(IDLE_SECONDS)
    spent = sum(process.cpu_seconds() for process in daemons) - before
    return spent / (trio.current_time() - began) / max(1, len(daemons))


def _link_bytes(network: Network) -> dict[str, tuple[int, int]]:
    return {name: (count.up, count.down) for name, count in network.link_bytes().items()}


def _passed(before: tuple[int, int], after: tuple[int, int]) -> tuple[int, int]:
    return after[0] - before[0], after[1] - before[1]


def _busiest_wan(network: Network, passed: Mapping[str, tuple[int, int]]) -> int | None:
    into = [passed[site.wan.name][1] for site in network.sites if site.wan is not None]
    return max(into, default=None)
