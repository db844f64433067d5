# SPDX-License-Identifier: Apache-2.0
"""Small payloads from peer to peer: over mutual TLS on loopback, and in memory, alike. And what strangers get: nothing."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from p2pd.adapters.lan_mirror import MIRROR_LIMITS, mirror_app
from p2pd.adapters.small_peers import MAX_WAITING_EACH, SmallPeersHttps
from p2pd.adapters.small_shelf import SmallShelfFiles
from p2pd.host.http_server import Listener, serve_http
from p2pd.host.live_certificate import LiveCertificate
from p2pd.ports import Endpoint
from p2pd.ports_small import PeerBusy, PeerFailure, SmallPeers
from signing.devices import SegmentAuthority
from signing.manifest import Content
from tests.fakes.fake_small_peers import FakeSmallNetwork
from tests.fakes.segment import create_authority, enrol

PAYLOADS = {hashlib.sha256(data).hexdigest(): data for data in (b"one", b"two" * 500, b"three" * 9_000)}
CONTENTS = [Content(sha256=sha256, size=len(data)) for sha256, data in PAYLOADS.items()]
HOST = "127.44.0.9"


def live_certificate(directory: Path, authority: SegmentAuthority, device: str) -> LiveCertificate:
    badge = enrol(authority, device)
    certificate, key = directory / f"{device}.pem", directory / f"{device}.key"
    certificate.write_bytes(badge.certificate_pem)
    key.write_bytes(badge.key_pem)
    return LiveCertificate(certificate, key)


def client_of(directory: Path, authority: SegmentAuthority, *, believes: SegmentAuthority) -> httpx.AsyncClient:
    shown = live_certificate(directory, authority, "asker")
    return httpx.AsyncClient(verify=shown.peer_context(ca_pem=believes.certificate_pem), trust_env=False)


@asynccontextmanager
async def serving(app: Any, directory: Path, authority: SegmentAuthority) -> AsyncIterator[Endpoint]:
    ca = directory / "ca.pem"
    ca.write_bytes(authority.certificate_pem)
    live = live_certificate(directory, authority, "server")
    listener = Listener(host=HOST, port=0, live=live, client_ca=ca, limits=MIRROR_LIMITS)
    async with trio.open_nursery() as nursery:
        bound = await nursery.start(partial(serve_http, app, listener, drain_seconds=0.1))
        yield Endpoint(host=HOST, port=bound[0][1])
        nursery.cancel_scope.cancel()


@pytest.fixture
def shelf(tmp_path: Path) -> SmallShelfFiles:
    return SmallShelfFiles(tmp_path / "payloads", "office", trio.to_thread.run_sync)


@pytest.fixture(params=["real", "fake"])
async def peer(
    request: pytest.FixtureRequest, tmp_path: Path, shelf: SmallShelfFiles
) -> AsyncIterator[tuple[SmallPeers, Endpoint]]:
    if request.param == "fake":
        network = FakeSmallNetwork()
        network.join(HOST, shelf)
        yield network, Endpoint(host=HOST, port=7682)
        return
    authority = create_authority()
    async with (
        client_of(tmp_path, authority, believes=authority) as client,
        serving(mirror_app(tmp_path / "mirror", shelf), tmp_path, authority) as endpoint,
    ):
        yield SmallPeersHttps(client), endpoint


async def test_what_the_peer_has_comes_at_once(peer: tuple[SmallPeers, Endpoint], shelf: SmallShelfFiles) -> None:
    await shelf.put(PAYLOADS)
    with trio.fail_after(30):
        assert await peer[0].ask(peer[1], CONTENTS, wait_seconds=9) == PAYLOADS


async def test_what_it_lacks_is_left_out(peer: tuple[SmallPeers, Endpoint], shelf: SmallShelfFiles) -> None:
    some = dict(list(PAYLOADS.items())[:1])
    await shelf.put(some)
    assert await peer[0].ask(peer[1], CONTENTS, wait_seconds=0) == some


async def test_a_question_waits_for_what_comes(peer: tuple[SmallPeers, Endpoint], shelf: SmallShelfFiles) -> None:
    answers = []
    for sha256 in PAYLOADS:
        shelf.expect(sha256)

    async def ask() -> None:
        answers.append(await peer[0].ask(peer[1], CONTENTS, wait_seconds=25))

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(0.2)  # that it comes after the question is not needed for the test to pass
            await shelf.put(PAYLOADS)
    assert answers == [PAYLOADS]


async def test_nothing_is_an_answer_too(peer: tuple[SmallPeers, Endpoint], shelf: SmallShelfFiles) -> None:
    assert await peer[0].ask(peer[1], CONTENTS, wait_seconds=0) == {}
    shelf.expect(CONTENTS[0].sha256)
    assert await peer[0].ask(peer[1], CONTENTS, wait_seconds=0.05) == {}


async def test_who_does_not_expect_it_does_not_let_us_wait(
    peer: tuple[SmallPeers, Endpoint], shelf: SmallShelfFiles
) -> None:
    with trio.fail_after(20):
        with pytest.raises(PeerBusy):
            await peer[0].ask(peer[1], CONTENTS, wait_seconds=25)
        shelf.expect(CONTENTS[0].sha256)
        shelf.forget(CONTENTS[0].sha256)
        with pytest.raises(PeerBusy):
            await peer[0].ask(peer[1], CONTENTS, wait_seconds=25)


async def test_one_peer_takes_a_few_places_and_leaves_the_others(
    peer: tuple[SmallPeers, Endpoint], shelf: SmallShelfFiles
) -> None:
    asked, answered = 2 * MAX_WAITING_EACH, 0
    shelf.expect(CONTENTS[0].sha256)
    busy = trio.Event()

    async def ask() -> None:
        nonlocal answered
        try:
            assert await peer[0].ask(peer[1], CONTENTS[:1], wait_seconds=25) == {
                CONTENTS[0].sha256: PAYLOADS[CONTENTS[0].sha256]
            }
            answered += 1
        except PeerBusy:
            busy.set()

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for _ in range(asked):
                nursery.start_soon(ask)
            await busy.wait()
            await shelf.put({CONTENTS[0].sha256: PAYLOADS[CONTENTS[0].sha256]})
    assert answered >= MAX_WAITING_EACH


async def test_one_device_has_a_few_connections_and_others_get_in(shelf: SmallShelfFiles, tmp_path: Path) -> None:
    authority = create_authority()
    await shelf.put(PAYLOADS)
    greedy = live_certificate(tmp_path, authority, "greedy").peer_context(ca_pem=authority.certificate_pem)
    async with (
        client_of(tmp_path, authority, believes=authority) as honest,
        serving(mirror_app(tmp_path / "mirror", shelf), tmp_path, authority) as endpoint,
        AsyncExitStack() as stack,
    ):
        most = MIRROR_LIMITS.max_connections_each or 0
        for _ in range(most + 1):
            raw = await trio.open_tcp_stream(endpoint.host, endpoint.port)
            stream = trio.SSLStream(raw, greedy, server_hostname=endpoint.host, https_compatible=True)
            stack.push_async_callback(trio.aclose_forcefully, raw)
            await stream.do_handshake()
            await stream.send_all(b"GET /metadata/none HTTP/1.1\r\nHost: x\r\n\r\n")
            with trio.fail_after(20):
                try:
                    first = await stream.receive_some(1)
                except trio.BrokenResourceError:
                    first = b""
            if not first:
                break
            most -= 1
        assert not first
        assert not most, "that many were served"
        with trio.fail_after(20):
            assert await SmallPeersHttps(honest).ask(endpoint, CONTENTS, wait_seconds=0) == PAYLOADS


async def test_what_is_forgotten_is_handed_out_no_more(
    peer: tuple[SmallPeers, Endpoint], shelf: SmallShelfFiles
) -> None:
    await shelf.put(PAYLOADS)
    for sha256 in PAYLOADS:
        shelf.forget(sha256)
    assert await peer[0].ask(peer[1], CONTENTS, wait_seconds=0) == {}
    assert await shelf.adopt(CONTENTS) == frozenset(PAYLOADS), "the files stay"
    assert await peer[0].ask(peer[1], CONTENTS, wait_seconds=0) == PAYLOADS


async def test_what_changed_on_disk_is_not_adopted(shelf: SmallShelfFiles, tmp_path: Path) -> None:
    await shelf.put(PAYLOADS)
    again = SmallShelfFiles(tmp_path / "payloads", "office", trio.to_thread.run_sync)
    first = CONTENTS[0].sha256
    (tmp_path / "payloads" / first / "office").write_bytes(b"One")
    assert await again.adopt(CONTENTS) == frozenset(PAYLOADS) - {first}
    assert not again.holds(first)


async def test_devices_of_another_segment_get_nothing(shelf: SmallShelfFiles, tmp_path: Path) -> None:
    office, lab = create_authority("office"), create_authority("lab")
    await shelf.put(PAYLOADS)
    async with serving(mirror_app(tmp_path / "mirror", shelf), tmp_path, office) as endpoint:
        async with client_of(tmp_path, lab, believes=office) as stranger:
            with pytest.raises(PeerFailure):
                await SmallPeersHttps(stranger).ask(endpoint, CONTENTS, wait_seconds=0)
        async with client_of(tmp_path, office, believes=lab) as careful:
            with pytest.raises(PeerFailure):
                await SmallPeersHttps(careful).ask(endpoint, CONTENTS, wait_seconds=0)


def sending(status: int, *chunks: bytes, for_ever: bool = False) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        while for_ever:
            await send({"type": "http.response.body", "body": bytes(65_536), "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return app


@pytest.mark.parametrize(
    ("app", "is_hostile"),
    [
        (sending(404, b"not here"), False),
        (sending(200, b"half a frame"), False),
        (sending(200, bytes(40)), True),
        (sending(200, bytes.fromhex(CONTENTS[0].sha256) + (4).to_bytes(4) + b"four"), True),
        (sending(200, for_ever=True), True),
        (sending(200, bytes.fromhex(CONTENTS[0].sha256) + (2**32 - 1).to_bytes(4), for_ever=True), True),
    ],
    ids=["404", "breaks off", "not asked for", "another size", "endless", "endless payload"],
)
async def test_hostile_answers_are_cut_off(app: Any, is_hostile: bool, tmp_path: Path) -> None:
    authority = create_authority()
    async with (
        client_of(tmp_path, authority, believes=authority) as client,
        serving(app, tmp_path, authority) as endpoint,
    ):
        with trio.fail_after(20), pytest.raises(PeerFailure) as failure:
            await SmallPeersHttps(client).ask(endpoint, CONTENTS, wait_seconds=0)
    assert failure.value.is_hostile is is_hostile


async def test_questions_out_of_bounds_are_refused(shelf: SmallShelfFiles, tmp_path: Path) -> None:
    authority = create_authority()
    async with (
        client_of(tmp_path, authority, believes=authority) as client,
        serving(mirror_app(tmp_path / "mirror", shelf), tmp_path, authority) as endpoint,
    ):
        url = f"https://{endpoint.host}:{endpoint.port}/payloads"
        for wait, body in (("nan", bytes(32)), ("-1", bytes(32)), ("1e9", bytes(32)), ("x", bytes(32)), ("0", b"odd")):
            answer = await client.post(url, params={"wait": wait}, content=body)
            assert answer.status_code == httpx.codes.BAD_REQUEST, wait
        assert (await client.post(url, content=bytes(2**21))).status_code == httpx.codes.REQUEST_ENTITY_TOO_LARGE
