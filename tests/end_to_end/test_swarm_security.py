# SPDX-License-Identifier: Apache-2.0
"""Who is not of the segment gets no byte and gives none, and who listens on the wire learns nothing of the payload."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import libtorrent as lt
import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from p2pd.adapters.alert_pump import pump_alerts
from p2pd.adapters.torrent_addresses import TorrentAddresses
from p2pd.adapters.torrent_session import TorrentSwarm, open_torrent_session
from p2pd.adapters.torrent_settings import DH_PARAMETERS, SwarmLimits, session_params
from p2pd.ports import Endpoint, Transfer, TransferProgress, peer_id_of
from signing.devices import DeviceKey, SegmentAuthority
from tests.fakes.recording_proxy import open_recording_proxy
from tests.fakes.segment import Badge, Payload, create_authority, enrol, is_complete, make_payload

HOST = "127.0.0.1"
WAIT_SECONDS = 20.0
TLS_ALERT = b"\x15\x03"
REFUSALS = 2  # an intruder comes back after a second: it must fail again


@pytest.fixture
def authority() -> SegmentAuthority:
    return create_authority("office")


@pytest.fixture
def payload(tmp_path: Path, authority: SegmentAuthority) -> Payload:
    return make_payload(tmp_path, authority)


def open_swarm(badge: Badge) -> AbstractAsyncContextManager[TorrentSwarm]:
    return open_torrent_session(
        interfaces=[Endpoint(host=HOST, port=0)],
        certificate_pem=badge.certificate_pem,
        key_pem=badge.key_pem,
        device=badge.device,
    )


async def until(transfer: Transfer, condition: Callable[[TransferProgress], bool]) -> None:
    with trio.fail_after(WAIT_SECONDS):
        while not condition(transfer.progress()):
            await transfer.changed()


class Intruder:
    """libtorrent with the real torrent in hand, and with whatever certificate."""

    def __init__(self, payload: Payload, directory: Path, badge: Badge | None) -> None:
        addresses = TorrentAddresses([Endpoint(host=HOST, port=0)], 0)
        self._session = lt.session(session_params(addresses.settings(), "intruder", SwarmLimits()))
        params = lt.load_torrent_buffer(payload.torrent)
        params.save_path = str(directory)
        params.flags = lt.torrent_flags.paused
        self.handle = self._session.add_torrent(params)
        if badge is not None:
            certificate, key = badge.certificate_pem.decode(), badge.key_pem.decode()
            self.handle.set_ssl_certificate_buffer(certificate, key, DH_PARAMETERS)
        self.handle.resume()
        self.refusals = 0
        self._refused = trio.Event()

    @property
    def port(self) -> int:
        return self._session.ssl_listen_port()

    async def refused(self) -> None:
        """Return once it was thrown out, or gave up, REFUSALS times."""
        with trio.fail_after(WAIT_SECONDS):
            await self._refused.wait()

    def set_alert_fd(self, descriptor: int) -> None:
        self._session.set_alert_fd(descriptor)

    def pop_alerts(self) -> list[lt.alert]:
        return self._session.pop_alerts()

    async def gather(self) -> None:
        await trio.lowlevel.checkpoint()

    def receive(self, alert: lt.alert) -> None:
        if isinstance(alert, lt.peer_disconnected_alert):
            self.refusals += 1
            if self.refusals >= REFUSALS:
                self._refused.set()


@asynccontextmanager
async def open_intruder(payload: Payload, directory: Path, badge: Badge | None) -> AsyncIterator[Intruder]:
    intruder = Intruder(payload, directory, badge)
    async with trio.open_nursery() as nursery:
        await nursery.start(pump_alerts, intruder)
        yield intruder
        nursery.cancel_scope.cancel()


def issue_for_another_name(authority: SegmentAuthority, name: str) -> Badge:
    """A certificate that the right authority signed, for another segment: what `issue` never makes."""
    signer = serialization.load_pem_private_key(authority.key_pem(None), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key, now = DeviceKey.generate(), datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "intruder")]))
        .issuer_name(x509.load_pem_x509_certificate(authority.certificate_pem).subject)
        .public_key(key.private_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(signer, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    return Badge(device="intruder", certificate_pem=pem, key_pem=key.to_pem())


def false_badge(kind: str, authority: SegmentAuthority) -> Badge | None:
    match kind:
        case "no certificate":
            return None
        case "another segment's authority":
            return enrol(create_authority("lab"), "intruder")
        case "an authority that calls itself the same":
            return enrol(create_authority("office"), "intruder")
        case "the right authority for another name":
            return issue_for_another_name(authority, "lab")
        case "an expired certificate":
            return enrol(authority, "intruder", lifetime=timedelta(minutes=-5))
    raise AssertionError(kind)


KINDS = [
    "no certificate",
    "another segment's authority",
    "an authority that calls itself the same",
    "the right authority for another name",
    "an expired certificate",
]


Attack = Callable[[str, SegmentAuthority, Payload, Path], Awaitable[None]]


async def each_kind(attack: Attack, authority: SegmentAuthority, payload: Payload, directory: Path) -> None:
    """Each with swarms of its own, side by side: most of the time they wait to be refused."""
    async with trio.open_nursery() as nursery:
        for kind in KINDS:
            nursery.start_soon(attack, kind, authority, payload, directory / kind, name=kind)


async def test_a_stranger_gets_no_byte(authority: SegmentAuthority, payload: Payload, tmp_path: Path) -> None:
    await each_kind(gets_no_byte, authority, payload, tmp_path)


async def test_a_stranger_cannot_give_a_byte(authority: SegmentAuthority, payload: Payload, tmp_path: Path) -> None:
    await each_kind(gives_no_byte, authority, payload, tmp_path)


async def gets_no_byte(kind: str, authority: SegmentAuthority, payload: Payload, tmp_path: Path) -> None:
    badge = false_badge(kind, authority)
    async with (
        open_swarm(enrol(authority, "pc-1")) as swarm,
        swarm.transfer(payload.put(tmp_path / "pc-1")) as seed,
        open_intruder(payload, tmp_path / "intruder", badge) as intruder,
    ):
        await until(seed, is_complete)
        intruder.handle.connect_peer((HOST, swarm.port), 0, 0)
        await intruder.refused()
        status = intruder.handle.status()
        assert status.total_payload_download == 0, kind
        assert not any(status.pieces), kind
        assert seed.progress().peers == (), kind


async def gives_no_byte(kind: str, authority: SegmentAuthority, payload: Payload, tmp_path: Path) -> None:
    payload.put(tmp_path / "intruder")
    badge = false_badge(kind, authority)
    async with (
        open_swarm(enrol(authority, "pc-1")) as swarm,
        swarm.transfer(payload.spec(tmp_path / "pc-1")) as leech,
        open_intruder(payload, tmp_path / "intruder", badge) as intruder,
    ):
        leech.connect(Endpoint(host=HOST, port=intruder.port))
        intruder.handle.connect_peer((HOST, swarm.port), 0, 0)
        await intruder.refused()
        assert intruder.handle.status().total_payload_upload == 0, kind
        progress = leech.progress()
    assert not progress.have, kind
    assert progress.peers == (), kind
    assert progress.bytes_lan == 0, kind


async def test_an_intruder_with_the_right_certificate_would_succeed(
    authority: SegmentAuthority, payload: Payload, tmp_path: Path
) -> None:
    """The two tests above fail for the certificate's sake, and for no other."""
    async with (
        open_swarm(enrol(authority, "pc-1")) as swarm,
        swarm.transfer(payload.put(tmp_path / "pc-1")) as seed,
        open_intruder(payload, tmp_path / "intruder", enrol(authority, "intruder")) as intruder,
    ):
        await until(seed, is_complete)
        intruder.handle.connect_peer((HOST, swarm.port), 0, 0)
        await until(seed, lambda now: now.peers == (peer_id_of("intruder"),) and len(now.peers_have) == now.piece_count)


async def say_hello(port: int, payload: Payload, context: ssl.SSLContext | None) -> bytes:
    """Send a BitTorrent handshake by hand, trusting anybody; what comes back before the other side hangs up."""
    short_hash = bytes.fromhex(payload.info_hash)[:20]
    hello = b"\x13BitTorrent protocol" + bytes(8) + short_hash + b"intruder-intruder-20"
    answer = b""
    tcp = await trio.open_tcp_stream(HOST, port)
    # libtorrent finds the torrent, and so the certificate to show, by the info-hash in the server name.
    stream = tcp if context is None else trio.SSLStream(tcp, context, server_hostname=short_hash.hex())
    with trio.move_on_after(WAIT_SECONDS):
        async with stream:
            try:
                await stream.send_all(hello)
                while len(answer) < len(hello) and (chunk := await stream.receive_some(4_096)):
                    answer += chunk
            except trio.BrokenResourceError:
                pass  # thrown out
    return answer


def client_context(badge: Badge | None, directory: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if badge is not None:
        file = directory / "badge.pem"
        file.write_bytes(badge.certificate_pem + badge.key_pem)
        context.load_cert_chain(file)
    return context


async def test_a_client_that_trusts_anybody_is_not_answered_without_the_right_certificate(
    authority: SegmentAuthority, payload: Payload, tmp_path: Path
) -> None:
    async with (
        open_swarm(enrol(authority, "pc-1")) as swarm,
        swarm.transfer(payload.put(tmp_path / "pc-1")),
    ):
        in_clear = await say_hello(swarm.port, payload, None)
        assert (in_clear[:2], len(in_clear)) == (TLS_ALERT, 7), "without TLS it hears that this is no TLS"
        for kind in KINDS:
            badge = false_badge(kind, authority)
            assert await say_hello(swarm.port, payload, client_context(badge, tmp_path)) == b"", kind
        right = client_context(enrol(authority, "pc-2"), tmp_path)
        assert (await say_hello(swarm.port, payload, right)).startswith(b"\x13BitTorrent protocol")


async def test_the_wire_shows_neither_payload_nor_names(
    authority: SegmentAuthority, payload: Payload, tmp_path: Path
) -> None:
    async with (
        open_swarm(enrol(authority, "accounting-7")) as swarm_1,
        open_swarm(enrol(authority, "accounting-8")) as swarm_2,
        swarm_1.transfer(payload.put(tmp_path / "pc-1")) as seed,
        swarm_2.transfer(payload.spec(tmp_path / "pc-2")) as leech,
        open_recording_proxy(swarm_1.port) as wire,
    ):
        await until(seed, is_complete)
        leech.connect(Endpoint(host=HOST, port=wire.port))
        await until(leech, is_complete)
    assert len(wire.to_client) > len(payload.data), "the payload did come this way"
    secrets = [payload.data[at : at + 16] for at in range(0, len(payload.data), 1_000)]
    secrets += [b"office", b"accounting", b"BitTorrent", b"p2pd", b"segment"]
    secrets += [peer_id_of("accounting-7"), peer_id_of("accounting-8"), bytes.fromhex(payload.info_hash)[:20]]
    for seen in (bytes(wire.to_server), bytes(wire.to_client)):
        for secret in secrets:
            assert secret not in seen, f"{secret!r} travelled in clear"
