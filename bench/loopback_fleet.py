# SPDX-License-Identifier: Apache-2.0
"""A whole fleet on the loopback network: a real coordinator, and agents with their installers, each at its own address.

    async with loopback_fleet(directory, agents=3) as fleet:
        published = await fleet.release("1.0", source)
        await fleet.reach("1.0", "verified")

Nothing is shaped here: it is for what one machine can tell about processes (memory, wake-ups, latency), not links.
"""

import json
import secrets
import socket
import struct
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import trio

from p2pd.host.control_socket import ControlRefused, ControlUnreachable, request
from seeds.demo.cast import write_configs
from seeds.demo.processes import AgentHome, Stage, stage

PRODUCT = "ledger"
PUBLIC_PORT, AGENT_PORT, METRICS_PORT = 8443, 8444, 9464
MAX_AGENTS = 200
START_SECONDS = 120.0
LOOK_SECONDS = 0.1
_POLICY = 'version = 2\nsegments = ["default"]\n\n[[rings]]\nname = "everyone"\n'


class NotReached(Exception):
    """An agent did not get there in time; its log says more."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """When a release was published, in Unix seconds, and its transport's size."""

    began: float
    done: float
    transport_bytes: int


@dataclass(frozen=True, kw_only=True)
class LoopbackFleet:
    """What runs, and where."""

    stage: Stage
    coordinator: str
    homes: tuple[AgentHome, ...]

    async def release(self, version: str, source: Path) -> Published:
        """Build, sign and publish what lies in `source` as the next version of PRODUCT."""
        command = ("p2pctl", "patch", "build", "--json", PRODUCT, version, str(source), "--probation", "1")
        built = json.loads(await self.stage.run(*command, "--interval", "0.5", "--check-command", "true"))
        await self.stage.run("p2pctl", "patch", "sign")
        began = time.time()
        await self.stage.run("p2pctl", "patch", "publish")
        size = int(built["transports"][0]["content"]["size"])
        return Published(began=began, done=time.time(), transport_bytes=size)

    async def reach(self, version: str, state: str, *, seconds: float = 60.0) -> tuple[Mapping[str, float], ...]:
        """Wait until every agent has been in `state` with `version`; for each agent, when it entered each state.

        Read from the logs, so that waiting costs the agents nothing. Raises NotReached.
        """
        with trio.move_on_after(seconds):
            while True:
                found = tuple(states_of(home.directory / "p2pd.log", version) for home in self.homes)
                if all(state in entered for entered in found):
                    return found
                await trio.sleep(LOOK_SECONDS)
        raise NotReached(f"not every agent was {state} with {version} within {seconds:g} s: {self.stage.directory}")

    async def acquainted(self, count: int | None = None) -> None:
        """Wait until every agent sees `count` peers, by default all others. Raises NotReached."""
        wanted = len(self.homes) - 1 if count is None else count
        for home in self.homes:
            await _answers(home.control_socket, lambda told: told["peers"] >= wanted)

    def daemon_pid(self, number: int) -> int:
        """The process id of the daemon of that agent."""
        return listener_pid(self.homes[number].control_socket)

    def coordinator_pid(self) -> int:
        """The process id of the coordinator."""
        return listener_pid(self.stage.fleet / "run" / "control.sock")


@asynccontextmanager
async def loopback_fleet(directory: Path, *, agents: int) -> AsyncIterator[LoopbackFleet]:
    """Set up a fleet in the empty `directory`; all of its processes have ended when the block is left."""
    if not 1 <= agents <= MAX_AGENTS:
        raise ValueError(f"agents {agents} must be between 1 and {MAX_AGENTS}")
    prefix = f"127.{1 + secrets.randbelow(250)}.{secrets.randbelow(255)}"
    async with stage(directory) as running:
        homes = tuple(
            AgentHome(name=f"agent-{n}", address=f"{prefix}.{1 + n}", directory=directory / f"agent-{n}")
            for n in range(1, agents + 1)
        )
        fleet = LoopbackFleet(stage=running, coordinator=f"{prefix}.1", homes=homes)
        await _start_coordinator(fleet)
        token = await running.run("p2pctl", "enroll-token", "--uses", str(agents))
        for home in homes:
            await _start_agent(running, home, token)
        for home in homes:
            await _answers(home.control_socket, lambda _: True)
        yield fleet


def listener_pid(control_socket: Path) -> int:
    """Who listens at a Unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.connect(str(control_socket))
        credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid: int = struct.unpack("3i", credentials)[0]
    return pid


def states_of(log: Path, version: str) -> dict[str, float]:
    """When the log says that each state began, in Unix seconds; the last word counts."""
    entered: dict[str, float] = {}
    for line in log.read_text(errors="replace").splitlines():
        if '"release state"' not in line:
            continue
        try:
            told = json.loads(line)
        except ValueError:
            continue  # the line is still being written
        if told.get("version") == version:
            entered[told["state"]] = datetime.fromisoformat(told["time"]).timestamp()
    return entered


async def _start_coordinator(fleet: LoopbackFleet) -> None:
    running, address = fleet.stage, fleet.coordinator
    ports = ("--public", f"{address}:{PUBLIC_PORT}", "--agent", f"{address}:{AGENT_PORT}")
    await running.run("p2pctl", "init", "--name", address, *ports, "--metrics", f"{address}:{METRICS_PORT}")
    policy = running.directory / "policy.toml"
    await trio.Path(policy).write_text(_POLICY)
    await running.run("p2pctl", "policy", "apply", str(policy))
    await running.start(running.directory / "coordinator.log", "p2pctl", "serve")
    await _answers(running.fleet / "run" / "control.sock", lambda _: True)


async def _start_agent(running: Stage, home: AgentHome, token: str) -> None:
    write_configs(home)
    enroll = ("p2pd", "--config", str(home.config), "enroll", "--name", home.name, "--token-file", "-")
    await running.run(*enroll, stdin=token.encode())
    await running.start(home.directory / "p2pd-install.log", "p2pd-install", "--config", str(home.installer_config))
    await running.start(home.directory / "p2pd.log", "p2pd", "--config", str(home.config), "run")


async def _answers(control_socket: Path, is_enough: Any) -> None:
    with trio.move_on_after(START_SECONDS):
        while True:
            try:
                if is_enough(await request(control_socket, "status", timeout_seconds=10)):
                    return
            except (ControlUnreachable, ControlRefused):
                pass
            await trio.sleep(LOOK_SECONDS)
    raise NotReached(f"the daemon at {control_socket} is not ready after {START_SECONDS:g} s")
