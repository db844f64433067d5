# SPDX-License-Identifier: Apache-2.0
"""The demo as a story in three acts, told by real processes; it ends well only if all of it was observed.

1. A public release travels to six agents: the canary first, then everyone.
2. Its successor follows the same way, as an update.
3. A broken build of the successor reaches only the canary, goes back by itself, and halts the rollout.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import trio
from prometheus_client.parser import text_string_to_metric_families

from p2pd.host.control_socket import ControlRefused, ControlUnreachable, request
from seeds.demo.cast import METRICS_PORT, set_up_fleet, start_agents
from seeds.demo.processes import AGENTS, AgentHome, Stage, loopback_addresses
from seeds.demo.screen import Screen
from seeds.demo.software import Software, fetch_software
from seeds.demo.watching import AgentSight, look_at, why_not
from signing.reasons import Reason
from signing.report import InstallState

LOOK_SECONDS = 0.15
ACT_SECONDS = 90.0  # takes fifteen; this is for machines that are busy with something else
PROBATION_SECONDS, INTERVAL_SECONDS = 2.0, 0.5


class NotObserved(Exception):
    """Something that the demo promises did not happen in time."""


@dataclass(frozen=True, kw_only=True)
class Release:
    """A good release, committed by every agent. `origin_bytes` of its payload left the origin, by its own count."""

    version: str
    full_bytes: int  # as it travels to who has nothing
    delta_bytes: int | None  # as it travels to who has the release before; None: there is no such delta
    origin_bytes: int
    sights: tuple[AgentSight, ...]

    @property
    def origin_copies(self) -> float:
        """What the origin sent, as a share of one full copy."""
        return self.origin_bytes / self.full_bytes


@dataclass(frozen=True, kw_only=True)
class Told:
    """What was observed."""

    software: Software
    first: Release
    update: Release
    final: tuple[AgentSight, ...]
    halted_with: str
    restored: bool
    seconds: float


async def tell(package: str, stage: Stage, screen: Screen) -> Told:
    """Play all three acts. Raises NotObserved, CommandFailed or BadInput."""
    began = time.monotonic()
    coordinator, *addresses = loopback_addresses()
    homes = tuple(
        AgentHome(name=f"agent-{n}", address=address, directory=stage.directory / f"agent-{n}")
        for n, address in enumerate(addresses, 1)
    )
    screen.say(f"[bold]Fetching two releases of {package} with pip, and setting up a fleet of {AGENTS} agents[/]")
    software = await fetch_software(package, stage.directory / "software")
    await set_up_fleet(stage, coordinator, screen.command)
    await start_agents(stage, homes, screen.command)
    play = Play(stage, screen, software, coordinator, homes)

    first = await play.release("Act 1: a public release", software.first.version, software.first.path)
    update = await play.release("Act 2: its successor", software.second.version, software.second.path)
    final, halted_with = await play.broken_release()
    return Told(
        software=software,
        first=first,
        update=update,
        final=final,
        halted_with=halted_with,
        restored=await trio.to_thread.run_sync(play.canary_is_restored),
        seconds=time.monotonic() - began,
    )


class Play:
    """The acts."""

    def __init__(
        self, stage: Stage, screen: Screen, software: Software, coordinator: str, homes: Sequence[AgentHome]
    ) -> None:
        self._stage = stage
        self._screen = screen
        self._software = software
        self._coordinator = coordinator
        self._homes = homes

    async def release(self, title: str, version: str, source: Path) -> Release:
        """Publish a good release and watch it being committed by every agent."""
        with self._screen.act(f"{title}: {self._software.package} {version}"):
            before = await self._origin_bytes()
            built = await self._publish(version, source)

            def all_committed(sights: Sequence[AgentSight]) -> bool:
                return all(
                    sight.version == version and sight.state == InstallState.COMMITTED and sight.installed == version
                    for sight in sights
                )

            sights = await self._watch_until(all_committed, f"every agent has committed {version}")
            deltas = [delta["content"]["size"] for delta in built.get("deltas", ())]
            return Release(
                version=version,
                full_bytes=built["transports"][0]["content"]["size"],
                delta_bytes=min(deltas, default=None),
                origin_bytes=await self._origin_bytes() - before,
                sights=sights,
            )

    async def broken_release(self) -> tuple[tuple[AgentSight, ...], str]:
        """Publish the broken build; see it go back on the canary, and every other agent refuse it."""
        version, package = self._software.broken_version, self._software.package
        with self._screen.act(f"Act 3: a broken build: {package} {version}"):
            await self._publish(version, self._software.broken)
            canary = self._homes[0].name

            def gone_back(sights: Sequence[AgentSight]) -> bool:
                _refuse_others(sights, canary, version)
                sight = next(sight for sight in sights if sight.name == canary)
                return (sight.version, sight.state) == (version, InstallState.ROLLED_BACK)

            await self._watch_until(gone_back, f"{canary} has rolled {version} back")
            halted_with = await self._halted(version)
            await self._everyone_refuses(version)
            sights = await self._look()
            _refuse_others(sights, canary, version)
            return sights, halted_with

    async def _origin_bytes(self) -> int:
        """Payload bytes that left the origin so far, by its own Prometheus metrics."""
        async with httpx.AsyncClient(trust_env=False) as client:
            page = (await client.get(f"http://{self._coordinator}:{METRICS_PORT}/metrics")).text
        return sum(
            int(sample.value)
            for family in text_string_to_metric_families(page)
            for sample in family.samples
            if sample.name == "seeds_bytes_served_total" and sample.labels.get("kind") == "payloads"
        )

    def canary_is_restored(self) -> bool:
        """Whether the files in use on the canary are the second release's, byte for byte as the wheel has them."""
        home, software = self._homes[0], self._software
        current = home.install_root / "products" / software.package / "current"
        metadata = list(current.glob(f"*-{software.second.version}.dist-info"))
        module = current / software.module / "__init__.py"
        return len(metadata) == 1 and "build_went_wrong" not in module.read_text()

    async def _publish(self, version: str, source: Path) -> dict[str, Any]:
        """Build, sign and publish; the facts that `p2pctl patch build --json` tells."""
        name = self._software.package
        options = ["--probation", str(PROBATION_SECONDS), "--interval", str(INTERVAL_SECONDS)]
        health = self._stage.directory / "health.toml"
        argv = ", ".join(json.dumps(argument) for argument in self._software.check_argv())
        await trio.Path(health).write_text(f'[[checks]]\nkind = "command"\nargv = [{argv}]\n')
        self._screen.command(f"p2pctl patch build {name} {version} {source.name} --health health.toml")
        built = await self._stage.run(
            "p2pctl", "patch", "build", "--json", name, version, str(source), "--health", str(health), *options
        )
        self._screen.command("p2pctl patch sign && p2pctl patch publish")
        await self._stage.run("p2pctl", "patch", "sign")
        await self._stage.run("p2pctl", "patch", "publish")
        facts: dict[str, Any] = json.loads(built)
        return facts

    async def _look(self) -> tuple[AgentSight, ...]:
        sights: dict[str, AgentSight] = {}

        async def look(home: AgentHome) -> None:
            sights[home.name] = await look_at(home, self._software.package)

        async with trio.open_nursery() as nursery:
            for home in self._homes:
                nursery.start_soon(look, home)
        return tuple(sights[home.name] for home in self._homes)

    async def _watch_until(
        self, is_reached: Callable[[Sequence[AgentSight]], bool], what: str
    ) -> tuple[AgentSight, ...]:
        with trio.move_on_after(ACT_SECONDS):
            while True:
                sights = await self._look()
                self._screen.show(sights)
                if is_reached(sights):
                    return sights
                await trio.sleep(LOOK_SECONDS)
        raise NotObserved(f"not within {ACT_SECONDS:g} s: {what}; logs are in {self._stage.directory}")

    async def _halted(self, version: str) -> str:
        """The reason with which the coordinator halted the rollout."""
        with trio.move_on_after(ACT_SECONDS):
            while True:
                try:
                    answer = await request(self._stage.fleet / "run" / "control.sock", "status", timeout_seconds=5)
                except (ControlUnreachable, ControlRefused):
                    answer = {"rollouts": []}
                for rollout in answer["rollouts"]:
                    if rollout["version"] == version and rollout["state"] == "halted":
                        return str(rollout["reason"])
                await trio.sleep(LOOK_SECONDS)
        raise NotObserved(f"the rollout of {version} was not halted within {ACT_SECONDS:g} s")

    async def _everyone_refuses(self, version: str) -> None:
        """Every agent but the canary says itself that it does not install the release, because it was halted."""
        with trio.move_on_after(ACT_SECONDS):
            for home in self._homes[1:]:
                await self._refuses(home, version)
            return
        raise NotObserved(f"an agent does not say that it leaves {version} alone")

    async def _refuses(self, home: AgentHome, version: str) -> None:
        while True:
            if await why_not(home, self._software.package, version) == Reason.ROLLOUT_HALTED:
                return
            await trio.sleep(LOOK_SECONDS)


def _refuse_others(sights: Sequence[AgentSight], canary: str, version: str) -> None:
    """Raise NotObserved as soon as anyone but the canary has touched the broken release."""
    touched = [sight.name for sight in sights if sight.name != canary and version in (sight.version, sight.installed)]
    if touched:
        raise NotObserved(f"{', '.join(touched)} began to install the broken release")
