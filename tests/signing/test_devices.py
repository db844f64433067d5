# SPDX-License-Identifier: Apache-2.0
"""Identities: a device proves its key, its authority names the segment, and nobody else's word counts."""

import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from signing.devices import (
    DeviceKey,
    SegmentAuthority,
    create_server_identity,
    csr_public_key,
    read_device_certificate,
)
from signing.errors import BadInput, KeyUnavailable

NOW = datetime(2030, 1, 1, tzinfo=UTC)
MONTH = timedelta(days=30)


def test_a_certificate_names_its_device_and_its_segment() -> None:
    key = DeviceKey.generate()
    pem = SegmentAuthority.create("plant", now=NOW).issue(key.csr("desk-1"), device="desk-1", now=NOW, lifetime=MONTH)
    certificate = read_device_certificate(pem, where="test")
    assert (certificate.device, certificate.segments) == ("desk-1", ("plant",))
    assert certificate.public_pem == key.public_pem
    assert certificate.not_after == NOW + MONTH


def test_the_names_come_from_the_authority_and_not_from_the_request() -> None:
    key = DeviceKey.generate()
    pem = SegmentAuthority.create("plant", now=NOW).issue(key.csr("boss"), device="desk-1", now=NOW, lifetime=MONTH)
    assert read_device_certificate(pem, where="test").device == "desk-1"


def test_a_certificate_chains_to_its_own_segment_only() -> None:
    authority, other = SegmentAuthority.create("plant", now=NOW), SegmentAuthority.create("office", now=NOW)
    pem = authority.issue(DeviceKey.generate().csr("desk-1"), device="desk-1", now=NOW, lifetime=MONTH)
    leaf = x509.load_pem_x509_certificate(pem)

    def verify(trusted: SegmentAuthority) -> None:
        roots = Store([x509.load_pem_x509_certificate(trusted.certificate_pem)])
        PolicyBuilder().store(roots).time(NOW + timedelta(days=1)).build_client_verifier().verify(leaf, [])

    verify(authority)
    with pytest.raises(VerificationError):
        verify(other)


def test_renewal_is_due_at_two_thirds_of_its_life() -> None:
    pem = SegmentAuthority.create("plant", now=NOW).issue(
        DeviceKey.generate().csr("desk-1"), device="desk-1", now=NOW, lifetime=MONTH
    )
    certificate = read_device_certificate(pem, where="test")
    life = certificate.not_after - certificate.not_before
    assert certificate.renewal_due() - certificate.not_before == life * 2 / 3


def test_an_authority_comes_back_only_with_its_passphrase() -> None:
    authority = SegmentAuthority.create("plant", now=NOW)
    stored = authority.key_pem(b"right")
    assert SegmentAuthority.from_pem(authority.certificate_pem, stored, b"right").segment == "plant"
    with pytest.raises(KeyUnavailable, match="segment authority key"):
        SegmentAuthority.from_pem(authority.certificate_pem, stored, b"wrong")


def test_a_request_that_does_not_prove_its_key_is_refused() -> None:
    honest = DeviceKey.generate().csr("desk-1")
    forged = bytearray(x509.load_pem_x509_csr(honest).public_bytes(serialization.Encoding.DER))
    forged[-1] ^= 1
    pem = x509.load_der_x509_csr(bytes(forged)).public_bytes(serialization.Encoding.PEM)
    with pytest.raises(BadInput, match="not signed by the key that it names"):
        csr_public_key(pem)


@pytest.mark.parametrize("private", [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65_537, 2_048)])
def test_other_kinds_of_keys_are_refused(private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "desk-1")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(private, hashes.SHA256())
    with pytest.raises(BadInput, match="P-256"):
        csr_public_key(request.public_bytes(serialization.Encoding.PEM))


@pytest.mark.parametrize("garbage", [b"", b"hello", b"-----BEGIN CERTIFICATE-----\n", b"x" * 20_000])
def test_garbage_is_refused_with_its_source(garbage: bytes) -> None:
    with pytest.raises(BadInput, match=r"^device\.crt"):
        read_device_certificate(garbage, where="device.crt")
    with pytest.raises(BadInput, match="certificate signing request"):
        csr_public_key(garbage)


def test_the_server_identity_serves_its_names_under_its_own_authority() -> None:
    identity = create_server_identity(["seeds.example", "192.0.2.1"], now=NOW)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=identity.ca_pem.decode())
    leaf = x509.load_pem_x509_certificates(identity.certificate_pem)[0]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["seeds.example"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.1"]
