# SPDX-License-Identifier: Apache-2.0
"""The whole coordinator on loopback: real TLS, real keys, a device that enrols, reads signed schedules and reports."""

import json
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from click.testing import CliRunner
from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface

from p2pd.host.control_socket import ControlRefused, request
from p2pd.host.tls import client_context
from seeds.adapters.store import Store
from seeds.cli import main
from seeds.config import Address
from seeds.coordinator import BoundAddresses, run_coordinator
from seeds.fleet import Fleet
from seeds.services.publishing import poke_coordinator
from seeds.services.rollouts import Pace
from seeds.services.tokens import TokenWish, issue_token
from signing.envelope import seal
from signing.errors import BadInput, KeyUnavailable
from signing.reasons import Reason
from signing.renewal import RenewalRequest
from signing.report import InstallState
from signing.schedule import Schedule
from signing.trust import TrustClient
from tests.seeds.fleet_kit import OFFLINE, ONLINE, Administrator, Endpoint

QUICK = Pace(recheck_seconds=30, settle_seconds=0)


class HttpsReads(FetcherInterface):
    """What a trust client needs of HTTPS."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context

    def _fetch(self, url: str) -> Iterator[bytes]:
        answer = httpx.get(url, verify=self._context)
        if answer.status_code != 200:
            raise DownloadHTTPError(url, answer.status_code)
        yield answer.content


class Joined:
    """An enrolled endpoint: what it asks with its certificate, and what it believes of the origin."""

    def __init__(self, scene: "Scene", endpoint: Endpoint, answer: dict[str, str], directory: Path) -> None:
        directory.mkdir()
        self.endpoint = endpoint
        self.answer = answer
        certificate, key = directory / "device.pem", directory / "device-key.pem"
        certificate.write_text(answer["certificate"])
        key.write_bytes(endpoint.key.to_pem())
        self.context = client_context(ca_pem=scene.ca_pem, certificate=certificate, key=key)
        self._scene = scene
        TrustClient.bootstrap(directory / "metadata", answer["root"].encode())
        self._trust = TrustClient(
            directory / "metadata",
            directory / "targets",
            HttpsReads(scene.context),
            metadata_url=f"{scene.url}/metadata/",
            targets_url=f"{scene.url}/targets/",
            now=lambda: datetime.now(UTC),
        )

    async def schedule(self) -> Schedule:
        """The site's schedule as of now, verified from the root up."""
        return await trio.to_thread.run_sync(self._read_schedule)

    def _read_schedule(self) -> Schedule:
        self._trust.refresh()
        return self._trust.schedule(self.answer["site"])

    async def report(self, state: InstallState, manifest_sha256: str) -> Any:
        envelope = self.endpoint.seal(self.endpoint.report(state, manifest_sha256=manifest_sha256))
        return await self.send(envelope)

    async def send(self, *envelopes: Any) -> Any:
        async with httpx.AsyncClient(verify=self.context) as client:
            answer = await client.post(f"{self._scene.agent_url}/reports", json={"envelopes": envelopes})
        assert answer.status_code == 200
        return answer.json()["results"]


class Scene:
    """A running coordinator and the people around it."""

    def __init__(self, fleet: Fleet, workshop: Path, bound: BoundAddresses) -> None:
        workshop.mkdir(exist_ok=True)
        self.fleet = fleet
        self.admin = Administrator(fleet, workshop)
        self.ca_pem = fleet.read_server_ca()
        self.context = client_context(ca_pem=self.ca_pem)
        self.url, self.agent_url = (f"https://127.0.0.1:{port}" for ((_, port),) in (bound.public, bound.agent))
        self._metrics_url = f"http://127.0.0.1:{bound.metrics[0][1]}"
        self.public = httpx.AsyncClient(verify=self.context, base_url=self.url)
        self._workshop = workshop

    def secret(self, **wish: Any) -> str:
        asked = TokenWish(**{"segment": "office", "site": "paris", **wish})
        with Store(self.fleet.database) as store:
            return issue_token(
                store, self.fleet.pins(), asked, who="alice", now=int(datetime.now(UTC).timestamp())
            ).secret

    async def join(self, name: str) -> Joined:
        endpoint = Endpoint(name)
        answer = await self.enrol(endpoint, self.secret())
        assert answer.status_code == 200
        return Joined(self, endpoint, answer.json(), self._workshop / name)

    async def enrol(self, endpoint: Endpoint, secret: str) -> httpx.Response:
        body = {"secret": secret, "device": endpoint.name, "csr": endpoint.csr().decode()}
        return await self.public.post("/enroll", json=body)

    async def changed(self, since: int) -> int:
        """Wait for news by the long poll."""
        answer = await self.public.get("/changes", params={"timestamp": since, "wait": 30}, timeout=40)
        version: int = answer.json()["timestamp"]
        assert version > since
        return version

    async def metrics(self) -> str:
        async with httpx.AsyncClient() as client:
            return (await client.get(f"{self._metrics_url}/metrics")).text

    async def p2pctl(self, *argv: str) -> Any:
        """What an administrator types, in a thread since it runs a loop of its own."""
        arguments = ["--fleet", str(self.fleet.directory), *argv]
        result = await trio.to_thread.run_sync(partial(CliRunner().invoke, main, arguments, catch_exceptions=False))
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)

    async def recompute(self) -> int:
        version = await trio.to_thread.run_sync(poke_coordinator, self.fleet.control_socket)
        assert version is not None
        return version


@asynccontextmanager
async def running(fleet: Fleet, workshop: Path) -> AsyncIterator[Scene]:
    async with trio.open_nursery() as nursery:
        bound = await nursery.start(partial(run_coordinator, fleet, passphrase=ONLINE, pace=QUICK))
        scene = Scene(fleet, workshop, bound)
        async with scene.public:
            yield scene
        nursery.cancel_scope.cancel()


@pytest.fixture
async def scene(fleet: Fleet, tmp_path: Path) -> Any:
    async with running(fleet, tmp_path / "workshop") as made:
        yield made


async def test_a_patch_travels_from_the_administrator_to_complete(scene: Scene) -> None:
    devices = {name: await scene.join(name) for name in ("pc-1", "pc-2", "pc-3")}
    watcher = devices["pc-1"]
    version = await scene.recompute()
    assert [member.device for member in (await watcher.schedule()).members] == ["pc-1", "pc-2", "pc-3"]

    manifest = scene.admin.release("1", 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.recompute)
        version = await scene.changed(version)
    (offer,) = (await watcher.schedule()).offers
    assert (offer.version, offer.manifest_sha256, offer.open_rings) == ("1", manifest, 1)
    (canary,) = offer.drafted

    assert await devices[canary.device].report(InstallState.COMMITTED, manifest) == [{"accepted": True, "reason": None}]
    version = await scene.changed(version)
    assert (await watcher.schedule()).offers[0].open_rings == 2
    for device in devices.values():
        await device.report(InstallState.COMMITTED, manifest)
    await scene.recompute()
    status = await request(scene.fleet.control_socket, "status", timeout_seconds=5)
    assert status["devices"] == 3
    assert [(rollout["version"], rollout["state"]) for rollout in status["rollouts"]] == [("1", "complete")]


async def test_a_failure_halts_and_no_other_device_is_offered_it(scene: Scene) -> None:
    devices = {name: await scene.join(name) for name in ("pc-1", "pc-2")}
    manifest = scene.admin.release("1", 1)
    await scene.recompute()
    (offer,) = (await devices["pc-1"].schedule()).offers
    (canary,) = offer.drafted
    await devices[canary.device].report(InstallState.ROLLED_BACK, manifest)
    await scene.recompute()
    (offer,) = (await devices["pc-1"].schedule()).offers
    assert (offer.halted, offer.open_rings) == (Reason.ERROR_GATE, 1)
    text = await scene.metrics()
    assert 'seeds_rollout_state{product="tzdata",state="halted"} 1.0' in text
    assert 'seeds_devices{segment="office"} 2.0' in text
    assert 'seeds_metadata_expiry_seconds{role="timestamp"}' in text


async def test_a_resumed_rollout_is_offered_again_at_once(scene: Scene) -> None:
    devices = {name: await scene.join(name) for name in ("pc-1", "pc-2")}
    manifest = scene.admin.release("1", 1)
    await scene.recompute()
    (first,) = (await devices["pc-1"].schedule()).offers[0].drafted
    await devices[first.device].report(InstallState.ROLLED_BACK, manifest)
    version = await scene.recompute()
    result = await scene.p2pctl("rollout", "resume", "tzdata", "1", "--json")
    assert result["forgiven"] == [first.device]
    assert result["served"] > version
    (offer,) = (await devices["pc-1"].schedule()).offers
    assert (offer.halted, offer.open_rings) == (None, 1)
    assert [entry.device for entry in offer.drafted] == [name for name in devices if name != first.device]


async def test_a_removed_device_is_refused_and_left_out_at_once(scene: Scene) -> None:
    lost, kept = await scene.join("pc-1"), await scene.join("pc-2")
    await scene.recompute()
    await scene.p2pctl("device", "remove", "pc-1", "--why", "stolen", "--json")
    assert [member.device for member in (await kept.schedule()).members] == ["pc-2"]
    (answer,) = await lost.report(InstallState.COMMITTED, "0" * 64)
    assert answer == {"accepted": False, "reason": Reason.DEVICE_UNKNOWN}
    asked = RenewalRequest(device="pc-1", csr=lost.endpoint.csr().decode(), time=int(datetime.now(UTC).timestamp()))
    refused = await scene.public.post("/renew", content=seal(asked, lost.endpoint.key))
    assert (refused.status_code, refused.json()["reason"]) == (403, Reason.DEVICE_UNKNOWN)


async def test_reports_are_idempotent_and_forgeries_are_refused(scene: Scene) -> None:
    mine, other = await scene.join("pc-1"), await scene.join("pc-2")
    envelope = mine.endpoint.seal(mine.endpoint.report(InstallState.FETCHING))
    accepted = {"accepted": True, "reason": None}
    assert await mine.send(envelope, envelope) == [accepted, accepted]
    assert await other.send(envelope) == [accepted]  # whoever carries it: the envelope says whose it is

    forged = Endpoint("pc-1")
    (answer,) = await other.send(forged.seal(forged.report(InstallState.COMMITTED)))
    assert answer == {"accepted": False, "reason": Reason.SIGNATURE_INVALID}


async def test_only_devices_reach_the_agents_listener(scene: Scene) -> None:
    async with httpx.AsyncClient(verify=scene.context) as stranger:
        with pytest.raises(httpx.TransportError):
            await stranger.get(f"{scene.agent_url}/reports")
    device = await scene.join("pc-1")
    assert await device.send() == []


async def test_tokens_are_good_for_what_they_say(scene: Scene) -> None:
    assert (await scene.enrol(Endpoint("pc-1"), "x" * 43)).json()["reason"] == Reason.TOKEN_UNKNOWN
    secret = scene.secret()
    assert (await scene.enrol(Endpoint("pc-1"), secret)).status_code == 200
    answer = await scene.enrol(Endpoint("pc-2"), secret)
    assert (answer.status_code, answer.json()["reason"]) == (403, Reason.TOKEN_USED)
    answer = await scene.enrol(Endpoint("pc-1"), scene.secret())
    assert (answer.status_code, answer.json()["reason"]) == (409, Reason.DEVICE_NAME_TAKEN)


async def test_a_certificate_is_renewed_without_one(scene: Scene) -> None:
    device = await scene.join("pc-1")
    endpoint = device.endpoint
    asked = RenewalRequest(device="pc-1", csr=endpoint.csr().decode(), time=int(datetime.now(UTC).timestamp()))
    answer = await scene.public.post("/renew", content=seal(asked, endpoint.key))
    assert answer.status_code == 200
    assert answer.json()["segment_ca"] == device.answer["segment_ca"]
    assert answer.json()["certificate"] != device.answer["certificate"]


async def test_payloads_come_by_range_over_tls(scene: Scene) -> None:
    scene.admin.release("1", 1)
    (payload,) = [path for path in scene.fleet.payloads.iterdir() if path.is_file()]
    answer = await scene.public.get(f"/payloads/{payload.name}", headers={"range": "bytes=100-199"})
    assert (answer.status_code, answer.content) == (206, payload.read_bytes()[100:200])


async def test_it_is_healthy_and_shows_its_authority(scene: Scene) -> None:
    health = await scene.public.get("/healthz")
    assert (health.status_code, health.json()["healthy"]) == (200, True)
    assert (await scene.public.get("/ca.pem")).content == scene.ca_pem


async def test_unknown_requests_on_the_control_socket_are_refused(scene: Scene) -> None:
    for verb, arguments in (("dance", {}), ("status", {"now": True})):
        with pytest.raises(ControlRefused, match="known are recompute and status"):
            await request(scene.fleet.control_socket, verb, arguments, timeout_seconds=5)


async def test_it_carries_on_where_it_was_stopped(fleet: Fleet, tmp_path: Path) -> None:
    async with running(fleet, tmp_path / "workshop") as scene:
        devices = {name: await scene.join(name) for name in ("pc-1", "pc-2")}
        manifest = scene.admin.release("1", 1)
        await scene.recompute()
        (canary,) = (await devices["pc-1"].schedule()).offers[0].drafted
        await devices[canary.device].report(InstallState.COMMITTED, manifest)
    async with running(fleet, tmp_path / "workshop") as scene:
        status = await request(fleet.control_socket, "status", timeout_seconds=5)
        (rollout,) = status["rollouts"]
        assert (rollout["state"], rollout["open_rings"]) == ("running", 2)


async def test_it_stops_without_sitting_out_long_polls(fleet: Fleet, tmp_path: Path) -> None:
    patient = Fleet(fleet.layout, replace(fleet.config, drain_seconds=600))
    answers: list[int] = []

    async def poll(scene: Scene) -> None:
        answer = await scene.public.get("/changes", params={"timestamp": 10**9, "wait": 60}, timeout=60)
        answers.append(answer.json()["timestamp"])

    async with trio.open_nursery() as outside:
        with trio.fail_after(30):
            async with trio.open_nursery() as inside:
                bound = await inside.start(partial(run_coordinator, patient, passphrase=ONLINE, pace=QUICK))
                scene = Scene(patient, tmp_path / "workshop", bound)
                outside.start_soon(poll, scene)
                while "seeds_long_polls 1.0" not in await scene.metrics():
                    pass
                inside.cancel_scope.cancel()
    await scene.public.aclose()
    assert len(answers) == 1


async def test_it_does_not_start_with_a_wrong_passphrase(fleet: Fleet) -> None:
    with pytest.raises(KeyUnavailable, match="wrong passphrase"):
        await run_coordinator(fleet, passphrase=OFFLINE)


async def test_a_port_in_use_is_named(fleet: Fleet, tmp_path: Path) -> None:
    async with running(fleet, tmp_path / "workshop") as scene:
        port = int(scene.url.rsplit(":", 1)[1])
        taken = replace(fleet.config, public=(Address(host="127.0.0.1", port=port),))
        with pytest.raises(BaseExceptionGroup) as caught:
            await run_coordinator(Fleet(fleet.layout, taken), passphrase=ONLINE)
        assert caught.group_contains(BadInput, match="the port is in use")
