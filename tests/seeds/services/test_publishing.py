# SPDX-License-Identifier: Apache-2.0
"""Releases are published whole, once, and with their payloads in place before anybody can read of them."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio

from p2pd.host.control_socket import ControlRefused, serve_requests
from seeds.fleet import Fleet
from seeds.services import publishing
from seeds.services.publishing import poke_coordinator, stage_patch, stage_policy, stage_recall
from signing.codec import decode
from signing.errors import BadInput, ContentMismatch, NotSigned
from signing.manifest import Content
from signing.policy import POLICY_TARGET, Policy
from signing.recall import RECALL_TARGET, RecallList
from tests.seeds.fleet_kit import Administrator, build

NOW = datetime.now(UTC)


@pytest.fixture
def admin(fleet: Fleet, tmp_path: Path) -> Administrator:
    return Administrator(fleet, tmp_path / "workshop")


def test_a_release_is_published_with_its_payload(admin: Administrator, fleet: Fleet) -> None:
    built = admin.stage("1", 1, segments=("office", "lab"))
    admin.sign("patches")
    (released,) = admin.publish("patches")

    assert released == built.manifest
    assert admin.repository.target_paths("patches") == (
        "patches/tzdata/1/lab.torrent",
        "patches/tzdata/1/manifest",
        "patches/tzdata/1/office.torrent",
    )
    content = built.manifest.transports[0].content
    assert (fleet.payloads / content.sha256).read_bytes() == built.transports[0].read_bytes()
    assert list(fleet.staged_payloads.iterdir()) == []


def test_one_signature_of_two_publishes_nothing(admin: Administrator, fleet: Fleet) -> None:
    admin.stage("1", 1)
    admin.repository.sign("patches", admin.signers("patches")[0])
    version = admin.repository.timestamp_version()
    with pytest.raises(NotSigned, match="1 of 2 signatures"):
        admin.publish("patches")
    assert admin.repository.timestamp_version() == version
    assert [path.name for path in fleet.payloads.iterdir()] == [".staged"]


def test_releases_that_wait_are_published_together(admin: Administrator) -> None:
    admin.stage("1", 1)
    admin.stage("7", 1, product="firefox")
    admin.stage("2", 2)
    admin.sign("patches")
    assert {(one.product, one.version) for one in admin.publish("patches")} == {
        ("tzdata", "1"),
        ("tzdata", "2"),
        ("firefox", "7"),
    }


def test_a_payload_that_vanished_keeps_its_release_back(admin: Administrator, fleet: Fleet) -> None:
    built = admin.stage("1", 1)
    admin.sign("patches")
    (fleet.staged_payloads / built.manifest.transports[0].content.sha256).unlink()
    with pytest.raises(BadInput, match="build the release again"):
        admin.publish("patches")
    assert admin.repository.target_paths("patches") == ()


def test_a_release_never_changes_and_counters_grow(admin: Administrator) -> None:
    admin.release("1", 5)
    admin.stage("2", 6)
    for version, counter, problem in (("1", 7, "exists already"), ("2", 7, "exists already"), ("3", 6, "use 7")):
        with pytest.raises(BadInput, match=problem):
            admin.stage(version, counter)
    assert publishing.next_counter(admin.repository, "tzdata") == 7
    assert publishing.next_counter(admin.repository, "firefox") == 1


def test_what_does_not_match_its_manifest_is_not_staged(admin: Administrator, tmp_path: Path) -> None:
    built = build(tmp_path / "other", "1", 1)

    def stage(**changed: object) -> None:
        stage_patch(admin.repository, admin.shelf, replace(built, **changed), now=NOW)  # type: ignore[arg-type]  # any

    with pytest.raises(BadInput, match="other torrents"):
        stage(torrents={})
    with pytest.raises(BadInput, match="other transports"):
        stage(transports=())
    (transport,) = built.manifest.transports
    wrong = replace(transport, content=Content(sha256="0" * 64, size=transport.content.size))
    with pytest.raises(ContentMismatch):
        stage(manifest=replace(built.manifest, transports=(wrong,)))
    assert admin.repository.pending() == ()


def test_the_number_of_products_is_bounded(admin: Administrator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "MAX_PRODUCTS", 1)
    admin.stage("1", 1)
    admin.stage("2", 2)
    with pytest.raises(BadInput, match="1 products already"):
        admin.stage("1", 1, product="firefox")


def test_recalls_add_up_also_before_they_are_signed(admin: Administrator) -> None:
    first = admin.release("1", 1)
    second = admin.release("2", 2)
    stage_recall(admin.repository, "tzdata", "1", "it eats files", now=NOW)
    stage_recall(admin.repository, "tzdata", "2", "so does this", now=NOW)
    admin.sign("recalls")
    admin.publish("recalls")
    data = admin.repository.read_target("recalls", RECALL_TARGET)
    assert data is not None
    recalls = decode(RecallList, data, where="test")
    assert [recall.manifest_sha256 for recall in recalls.recalls] == [first, second]
    assert recalls.version == 3
    with pytest.raises(BadInput, match="withdrawn already"):
        admin.recall("1")


def test_only_published_releases_are_recalled_and_for_a_reason(admin: Administrator) -> None:
    admin.release("1", 1)
    with pytest.raises(BadInput, match="is not published"):
        admin.recall("2")
    with pytest.raises(BadInput, match="why"):
        admin.recall("1", why="")


def test_a_policy_must_be_newer(admin: Administrator) -> None:
    data = admin.repository.read_target("policies", POLICY_TARGET)
    assert data is not None
    policy = decode(Policy, data, where="test")
    with pytest.raises(BadInput, match="count up"):
        stage_policy(admin.repository, policy, now=NOW)
    stage_policy(admin.repository, replace(policy, version=2), now=NOW)
    admin.sign("policies")
    assert admin.publish("policies") == ()


async def test_a_coordinator_that_runs_is_told(tmp_path: Path, nursery: trio.Nursery) -> None:
    socket, verbs = tmp_path / "control.sock", []

    async def handle(verb: str, _: object) -> dict[str, int]:
        verbs.append(verb)
        return {"timestamp_version": 9}

    assert poke_coordinator(socket) is None
    await nursery.start(serve_requests, socket, handle)
    assert await trio.to_thread.run_sync(poke_coordinator, socket) == 9
    assert verbs == ["recompute"]


@pytest.mark.parametrize("answer", [ControlRefused(None, "stalled"), {"timestamp_version": "9"}, {}])
async def test_a_coordinator_that_cannot_look_now_is_left_alone(
    tmp_path: Path, nursery: trio.Nursery, answer: ControlRefused | dict[str, object]
) -> None:
    async def handle(*_: object) -> dict[str, object]:
        if isinstance(answer, ControlRefused):
            raise answer
        return answer

    await nursery.start(serve_requests, tmp_path / "control.sock", handle)
    assert await trio.to_thread.run_sync(poke_coordinator, tmp_path / "control.sock") is None


async def test_who_hangs_up_or_babbles_has_not_answered(tmp_path: Path, nursery: trio.Nursery) -> None:
    for reply in (b"", b"not JSON\n", b"[1]\n", b"[" * 100_000):

        async def babble(stream: trio.SocketStream, reply: bytes = reply) -> None:
            await stream.receive_some()
            await stream.send_all(reply)

        path = tmp_path / f"{len(reply)}.sock"
        listener = trio.socket.socket(trio.socket.AF_UNIX)
        await listener.bind(str(path))
        listener.listen()
        await nursery.start(trio.serve_listeners, babble, [trio.SocketListener(listener)])
        assert await trio.to_thread.run_sync(poke_coordinator, path) is None
