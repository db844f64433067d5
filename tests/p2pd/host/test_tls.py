# SPDX-License-Identifier: Apache-2.0
"""Tests of p2pd.host.tls: handshakes in memory, and every way to misconfigure it."""

import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from p2pd.host.tls import client_context, peer_context, server_context
from signing.errors import BadInput
from tests.fakes.certificates import KeyFiles, TestAuthority


@pytest.fixture
def authority(tmp_path: Path) -> TestAuthority:
    return TestAuthority(tmp_path, "ours")


@pytest.fixture
def server(authority: TestAuthority) -> KeyFiles:
    return authority.issue("server")


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, *, name: str = "127.0.0.1") -> ssl.SSLObject:
    """Carry bytes between both until they are done, then one byte over, and return the client's side."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname=name)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(10):
        for side in (ours, theirs):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    theirs.write(b"!")  # in TLS 1.3 a client learns here that its certificate was refused
    assert ours.read(1) == b"!"
    return ours


def test_modern_tls_and_http_one(authority: TestAuthority, server: KeyFiles) -> None:
    client = client_context(ca_pem=authority.pem)
    client.set_alpn_protocols(["h2", "http/1.1"])
    session = shake_hands(client, server_context(certificate=server.certificate, key=server.key))
    assert session.version() == "TLSv1.3"
    assert session.selected_alpn_protocol() == "http/1.1"


def test_tls_1_1_is_refused(authority: TestAuthority, server: KeyFiles) -> None:
    for context in (
        client_context(ca_pem=authority.pem),
        server_context(certificate=server.certificate, key=server.key),
    ):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_a_server_of_another_authority_is_refused(tmp_path: Path, server: KeyFiles) -> None:
    other = TestAuthority(tmp_path, "other")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(client_context(ca_pem=other.pem), server_context(certificate=server.certificate, key=server.key))


def test_a_server_of_another_name_is_refused(authority: TestAuthority, server: KeyFiles) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        shake_hands(
            client_context(ca_pem=authority.pem),
            server_context(certificate=server.certificate, key=server.key),
            name="example.org",
        )


def test_a_peer_is_known_by_its_authority_and_named_to_nobody(
    tmp_path: Path, authority: TestAuthority, server: KeyFiles
) -> None:
    asked_for: list[str | None] = []
    serves = server_context(certificate=server.certificate, key=server.key)
    serves.sni_callback = lambda _socket, name, _context: asked_for.append(name)
    device, stranger = authority.issue("device"), TestAuthority(tmp_path, "other").issue("stranger")
    dials = peer_context(ca_pem=authority.pem, certificate=device.certificate, key=device.key)
    shake_hands(dials, serves, name="10.77.0.9")
    assert asked_for == [None]
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(dials, server_context(certificate=stranger.certificate, key=stranger.key))
    serves.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match="unsupported protocol"):
        shake_hands(dials, serves)


def test_a_client_certificate_is_required_when_asked_for(
    tmp_path: Path, authority: TestAuthority, server: KeyFiles
) -> None:
    def strict() -> ssl.SSLContext:
        return server_context(certificate=server.certificate, key=server.key, client_ca=authority.file)

    device, stranger = authority.issue("device"), TestAuthority(tmp_path, "other").issue("stranger")
    shake_hands(client_context(ca_pem=authority.pem, certificate=device.certificate, key=device.key), strict())
    with pytest.raises(ssl.SSLError, match="did not return a certificate"):
        shake_hands(client_context(ca_pem=authority.pem), strict())
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        shake_hands(client_context(ca_pem=authority.pem, certificate=stranger.certificate, key=stranger.key), strict())


def test_comments_in_any_alphabet_stand_in_a_bundle(authority: TestAuthority, server: KeyFiles) -> None:
    client = client_context(ca_pem="# Főtanúsítvány\n".encode() + authority.pem)
    shake_hands(client, server_context(certificate=server.certificate, key=server.key))


@pytest.mark.parametrize("pem", [b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"\xff"])
def test_a_ca_that_is_none(pem: bytes) -> None:
    with pytest.raises(BadInput, match="CA certificate: holds no PEM certificate"):
        client_context(ca_pem=pem)


def test_a_client_ca_that_is_none(tmp_path: Path, server: KeyFiles) -> None:
    (tmp_path / "empty.pem").touch()
    with pytest.raises(BadInput, match=r"empty\.pem: holds no PEM certificate"):
        server_context(certificate=server.certificate, key=server.key, client_ca=tmp_path / "empty.pem")
    with pytest.raises(BadInput, match=r"none\.pem: cannot be read \(No such file"):
        server_context(certificate=server.certificate, key=server.key, client_ca=tmp_path / "none.pem")


def test_missing_files_are_named(tmp_path: Path, server: KeyFiles) -> None:
    with pytest.raises(BadInput, match=r"none\.pem: cannot be read \(No such file"):
        server_context(certificate=tmp_path / "none.pem", key=server.key)
    with pytest.raises(BadInput, match=r"none\.key: cannot be read \(No such file"):
        server_context(certificate=server.certificate, key=tmp_path / "none.key")


def test_a_key_of_another_certificate(authority: TestAuthority, server: KeyFiles) -> None:
    with pytest.raises(BadInput, match="do not belong together"):
        server_context(certificate=server.certificate, key=authority.issue("other").key)


def test_a_file_that_is_no_key(authority: TestAuthority, server: KeyFiles) -> None:
    with pytest.raises(BadInput, match="hold no certificate and key"):
        server_context(certificate=server.certificate, key=authority.file)


def test_half_an_identity(authority: TestAuthority, server: KeyFiles) -> None:
    with pytest.raises(BadInput, match="go together"):
        client_context(ca_pem=authority.pem, certificate=server.certificate)


def test_an_encrypted_key_asks_nobody(server: KeyFiles) -> None:
    encrypted = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"passphrase"),
    )
    server.key.write_bytes(encrypted)
    with pytest.raises(BadInput, match=r"server\.key: is encrypted; give a key file without"):
        server_context(certificate=server.certificate, key=server.key)
