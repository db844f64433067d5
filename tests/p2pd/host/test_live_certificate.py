# SPDX-License-Identifier: Apache-2.0
"""A certificate that is renewed in service: new connections see it, on either side, and nothing is restarted."""

import gc
import ssl
from functools import partial
from pathlib import Path

import pytest
import trio

from p2pd.host.http_server import Listener, serve_http
from p2pd.host.live_certificate import LiveCertificate
from p2pd.host.tls import client_context, server_context
from signing.errors import BadInput
from tests.fakes.certificates import KeyFiles, TestAuthority
from tests.p2pd.host.test_http_server import echo


@pytest.fixture
def authority(tmp_path: Path) -> TestAuthority:
    return TestAuthority(tmp_path, "ours")


@pytest.fixture
def files(authority: TestAuthority) -> KeyFiles:
    return authority.issue("device")


@pytest.fixture
def live(files: KeyFiles) -> LiveCertificate:
    return LiveCertificate(files.certificate, files.key)


def on_disk(files: KeyFiles) -> bytes:
    return ssl.PEM_cert_to_DER_cert(files.certificate.read_text())


async def test_a_listener_shows_the_renewed_certificate_without_a_restart(
    authority: TestAuthority, files: KeyFiles, live: LiveCertificate
) -> None:
    client = authority.issue("client")
    dials = client_context(ca_pem=authority.pem, certificate=client.certificate, key=client.key)
    listener = Listener(host="127.0.0.1", port=0, live=live, client_ca=authority.file)

    async def connect(port: int) -> trio.SSLStream[trio.SocketStream]:
        stream = await trio.open_ssl_over_tcp_stream("127.0.0.1", port, ssl_context=dials)
        await ask(stream)
        return stream

    async def ask(stream: trio.SSLStream[trio.SocketStream]) -> None:
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while not answer.endswith(b'["/", 0]'):
            answer += await stream.receive_some()

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            [(_, port)] = await nursery.start(partial(serve_http, echo, listener, drain_seconds=1))
            before = await connect(port)
            first = on_disk(files)
            assert before.getpeercert(binary_form=True) == first
            authority.issue("device")
            live.reload()
            after = await connect(port)
            assert after.getpeercert(binary_form=True) == on_disk(files) != first
            await ask(before)  # what is open stays open
            for stream in (before, after):
                await trio.aclose_forcefully(stream)
            nursery.cancel_scope.cancel()


def seen_by_server(dials: ssl.SSLContext, serves: ssl.SSLContext) -> bytes | None:
    """Shake hands in memory; the certificate that the server was shown."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = dials.wrap_bio(to_client, to_server)
    server = serves.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(10):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return server.getpeercert(binary_form=True)


def test_a_dialling_peer_shows_the_renewed_certificate(
    authority: TestAuthority, files: KeyFiles, live: LiveCertificate
) -> None:
    server = authority.issue("server")
    serves = server_context(certificate=server.certificate, key=server.key, client_ca=authority.file)
    dials = live.peer_context(ca_pem=authority.pem)
    first = on_disk(files)
    assert seen_by_server(dials, serves) == first
    authority.issue("device")
    assert seen_by_server(dials, serves) == first
    live.reload()
    assert seen_by_server(dials, serves) == on_disk(files) != first


def test_files_that_do_not_belong_together_change_nothing(
    authority: TestAuthority, files: KeyFiles, live: LiveCertificate
) -> None:
    server = authority.issue("server")
    serves = server_context(certificate=server.certificate, key=server.key, client_ca=authority.file)
    dials = live.peer_context(ca_pem=authority.pem)
    first = on_disk(files)
    files.certificate.write_bytes(server.certificate.read_bytes())
    with pytest.raises(BadInput, match="do not belong together"):
        live.reload()
    assert seen_by_server(dials, serves) == first


def test_contexts_out_of_use_are_forgotten(authority: TestAuthority, live: LiveCertificate) -> None:
    for _ in range(3):
        live.server_context(client_ca=authority.file)
    gc.collect()
    assert len(live._contexts) == 0


@pytest.mark.parametrize("both", [True, False])
def test_a_listener_has_its_certificate_from_one_place(
    files: KeyFiles, live: LiveCertificate, authority: TestAuthority, both: bool
) -> None:
    if both:
        with pytest.raises(ValueError, match="name those, or live"):
            Listener(host="127.0.0.1", port=0, certificate=files.certificate, key=files.key, live=live)
    else:
        assert Listener(host="127.0.0.1", port=0, live=live, client_ca=authority.file).live is live
