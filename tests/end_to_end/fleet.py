# SPDX-License-Identifier: Apache-2.0
"""A fleet for one test: its administrator (the library behind `p2pctl`), its coordinator process, its endpoints."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import trio

from bench.lab.administrator import METRICS_PORT, OFFLINE, ONLINE
from bench.lab.processes import Finished, LabProcess, Processes
from bench.lab.programs import command
from p2pd.host.control_socket import request
from seeds.adapters.store import Store
from seeds.commands.publication import publish_role, shelf_of, sign_role
from seeds.fleet import open_fleet
from seeds.services.publishing import BuiltPatch, poke_coordinator, stage_patch, stage_policy, stage_recall
from seeds.services.tokens import TokenWish, issue_token
from signing.policy import Policy, Ring
from signing.repository import Repository
from signing.token import EnrolmentToken
from tests.end_to_end.endpoint import Endpoint
from tests.end_to_end.scraping import Metrics, scrape
from tests.end_to_end.template import SEGMENTS, Release, Template
from tests.end_to_end.waiting import eventually

SITE = "main"
PRODUCT = "ledger"
FIRST_POLICY = 1


class FleetUnderTest:
    """Made by the fixture `fleet`; nothing runs yet."""

    def __init__(
        self, template: Template, directory: Path, processes: Processes, *, address: str | None = None
    ) -> None:
        """`address` is where the coordinator listens, if not on the template's loopback address."""
        self.template = template
        self.directory = directory
        self.processes = processes
        self.address = address or template.address
        shutil.copytree(template.directory, directory / "fleet")
        config = directory / "fleet" / "fleet.toml"
        in_urls = f"//[{self.address}]:" if ":" in self.address else f"//{self.address}:"
        text = config.read_text().replace(f"//{template.address}:", in_urls)
        config.write_text(text.replace(template.address, self.address))
        self.fleet = open_fleet(directory / "fleet")
        self.repository = Repository(self.fleet.repository)
        self.log = directory / "coordinator.log"
        self.endpoints: list[Endpoint] = []
        self.secrets = [OFFLINE, ONLINE]
        self.coordinator: LabProcess | None = None
        self._policy_version = FIRST_POLICY
        self.environment = {"P2PCTL_FLEET": str(self.fleet.directory)}
        for name, passphrase in (("OFFLINE", OFFLINE), ("ONLINE", ONLINE)):
            path = directory / f"{name.lower()}-passphrase"
            path.touch(mode=0o600)
            path.write_text(passphrase)
            self.environment[f"P2PCTL_{name}_PASSPHRASE_FILE"] = str(path)

    # What administrators do.

    def use_rings(self, *rings: Ring) -> None:
        """Sign and publish a policy with these rings; before the coordinator runs."""
        self._policy_version += 1
        policy = Policy(version=self._policy_version, segments=SEGMENTS, rings=rings)
        stage_policy(self.repository, policy, now=datetime.now(UTC))
        self._publish("policies")

    async def release(
        self,
        version: str,
        counter: int,
        *,
        product: str = PRODUCT,
        healthy: bool = True,
        size: int = 4 << 20,
        count: int = 8,
    ) -> Release:
        """Build (once per run), sign and publish."""
        build = partial(self.template.release, product=product, healthy=healthy, size=size, count=count)
        release = await trio.to_thread.run_sync(build, version, counter)
        await self.publish(release.built)
        return release

    async def publish(self, built: BuiltPatch) -> None:
        """Sign and publish what was built."""
        stage_patch(self.repository, shelf_of(self.fleet), built, now=datetime.now(UTC))
        self._publish("patches")
        await self.poke()

    async def withdraw(self, release: Release, why: str) -> None:
        """Recall a release for good."""
        stage_recall(self.repository, release.product, release.version, why, now=datetime.now(UTC))
        self._publish("recalls")
        await self.poke()

    async def poke(self) -> None:
        """Tell the coordinator that there is news, if it runs."""
        await trio.to_thread.run_sync(poke_coordinator, self.fleet.control_socket)

    def token(self, *, segment: str = SEGMENTS[0], seconds_ago: int = 0, **wish: Any) -> EnrolmentToken:
        """An enrolment token, issued that long ago."""
        asked = TokenWish(segment=segment, site=SITE, **wish)
        with Store(self.fleet.database) as store:
            now = int(datetime.now(UTC).timestamp()) - seconds_ago
            token = issue_token(store, self.fleet.pins(), asked, who="test", now=now)
        self.secrets += [token.secret, token.encode()]
        return token

    def _publish(self, role: str) -> None:
        sign_role(self.fleet, self.repository, role, OFFLINE.encode())
        publish_role(self.fleet, self.repository, role, ONLINE.encode(), now=datetime.now(UTC))

    # Its processes.

    async def start_coordinator(self, *, prefix: Sequence[str] = ()) -> None:
        """Start `p2pctl serve` and wait until it answers."""
        assert self.coordinator is None
        argv = [*prefix, *command("p2pctl", "serve")]
        self.coordinator = await self.processes.start(
            argv, log=self.log, environment=self.environment, name="coordinator"
        )
        await eventually(self.rollouts, lambda _: True, "the coordinator answers")

    async def kill_coordinator(self) -> None:
        """kill -9."""
        coordinator, self.coordinator = self.coordinator, None
        assert coordinator is not None
        await coordinator.kill()

    def endpoint(self, name: str, *, address: str | None = None, prefix: Sequence[str] = ()) -> Endpoint:
        """A new endpoint, neither enrolled nor running."""
        endpoint = Endpoint(
            name, address or self.template.next_address(), self.directory / name, self.processes, prefix=prefix
        )
        self.endpoints.append(endpoint)
        return endpoint

    async def enrolled(self, *names: str, url: str | None = None, segment: str = SEGMENTS[0]) -> tuple[Endpoint, ...]:
        """New endpoints that have joined, and do not run. `url` is how they reach the coordinator, if not directly."""
        token = self.token(segment=segment, uses=len(names))
        if url is not None:
            token = replace(token, url=url)
            self.secrets.append(token.encode())
        endpoints = tuple(map(self.endpoint, names))
        for endpoint in endpoints:
            await endpoint.enrol(token.encode())
        return endpoints

    async def p2pctl(self, *arguments: str | Path, **environment: str) -> Finished:
        """A command of `p2pctl`, as a process."""
        return await self.processes.run(command("p2pctl", *arguments), environment=self.environment | environment)

    # What can be seen of it.

    async def rollouts(self) -> list[dict[str, Any]]:
        """The rollouts, as the running coordinator tells them."""
        answer = await request(self.fleet.control_socket, "status", timeout_seconds=20)
        rollouts: list[dict[str, Any]] = answer["rollouts"]
        return rollouts

    async def rollout_is(self, release: Release, **facts: Any) -> dict[str, Any]:
        """Wait until the coordinator says so of a release's rollout; what it says."""

        async def look() -> dict[str, Any]:
            rollouts = await self.rollouts()
            return next((rollout for rollout in rollouts if rollout["version"] == release.version), {})

        return await eventually(look, lambda now: now.items() >= facts.items(), f"{release.version}: {facts}")

    async def metrics(self) -> Metrics:
        """The running coordinator's metrics."""
        return await scrape(self.address, METRICS_PORT)

    async def served_bytes(self) -> int:
        """Payload bytes that have left the origin since it started, by its own metrics."""
        metrics = await self.metrics()
        return int(metrics.get(("seeds_bytes_served_total", ("payloads",)), 0))


async def start_all(*endpoints: Endpoint) -> None:
    """Start endpoints side by side."""
    async with trio.open_nursery() as nursery:
        for endpoint in endpoints:
            nursery.start_soon(endpoint.start)


async def acquainted(*endpoints: Endpoint) -> None:
    """Wait until each of the endpoints sees all others."""
    for endpoint in endpoints:
        await endpoint.sees_peers(len(endpoints) - 1)
