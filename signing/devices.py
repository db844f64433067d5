# SPDX-License-Identifier: Apache-2.0
"""Identities in X.509: device keys, the issuing authority of each segment, and the coordinator's server identity.

A device's certificate names the device as its common name and its segments as SAN DNS names: libtorrent compares
those with the torrent's name, so a segment is a cryptographic boundary. Keys are ECDSA P-256, which TLS stacks,
libtorrent's OpenSSL and securesystemslib all take.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from signing.bounds import check_name
from signing.encrypted_pkcs8 import encrypt_private_key
from signing.errors import BadInput, KeyUnavailable

AUTHORITY_LIFETIME = timedelta(days=10 * 365)
SERVER_LIFETIME = timedelta(days=2 * 365)
CLOCK_SLACK = timedelta(minutes=10)  # certificates begin a little early: endpoints' clocks differ
MAX_PEM_BYTES = 16_384


class DeviceKey:
    """A device's private key; it never leaves the device."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key

    @classmethod
    def generate(cls) -> "DeviceKey":
        """Make a new P-256 key."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def from_pem(cls, pem: bytes) -> "DeviceKey":
        """Read an unencrypted PKCS8 key. Raises KeyUnavailable."""
        return cls(_load_key(pem, None, "device key"))

    def to_pem(self) -> bytes:
        """Unencrypted PKCS8, for the daemon that starts unattended; the caller writes it with mode 0600."""
        return _dump_key(self._key, None)

    def csr(self, device: str) -> bytes:
        """A PEM signing request that proves possession of this key for the name `device`."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device)])
        request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(self._key, hashes.SHA256())
        return request.public_bytes(serialization.Encoding.PEM)

    @property
    def public_pem(self) -> bytes:
        """The public half, as SubjectPublicKeyInfo in PEM."""
        return _dump_public(self._key.public_key())

    @property
    def private_key(self) -> ec.EllipticCurvePrivateKey:
        """For signers in this package."""
        return self._key


class SegmentAuthority:
    """The issuing certificate authority of one segment; its certificate is a TUF target."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key

    @classmethod
    def create(cls, segment: str, *, now: datetime) -> "SegmentAuthority":
        """Make a new self-signed authority. Raises ValueError when `segment` is no valid name."""
        check_name("segment", segment)
        key = ec.generate_private_key(ec.SECP256R1())
        return cls(_self_signed(f"p2pd segment {segment}", key, now), key)

    @classmethod
    def from_pem(cls, certificate_pem: bytes, key_pem: bytes, passphrase: bytes | None) -> "SegmentAuthority":
        """Read an authority back. Raises BadInput or KeyUnavailable."""
        certificate = _load_certificate(certificate_pem, "segment authority certificate")
        return cls(certificate, _load_key(key_pem, passphrase, "segment authority key"))

    @property
    def segment(self) -> str:
        """The segment that this authority issues for."""
        return _common_name(self._certificate.subject).removeprefix("p2pd segment ")

    @property
    def certificate_pem(self) -> bytes:
        """The authority's own certificate."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def key_pem(self, passphrase: bytes | None) -> bytes:
        """The authority's key, encrypted when a passphrase is given."""
        return _dump_key(self._key, passphrase)

    def issue(self, csr_pem: bytes, *, device: str, now: datetime, lifetime: timedelta) -> bytes:
        """Issue a leaf certificate in PEM for the key in `csr_pem`; the names come from us, not from the request.

        Raises BadInput when the request cannot be read or does not prove possession of its key.
        """
        public_key = csr_public_key(csr_pem)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device)]))
            .issuer_name(self._certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_SLACK)
            .not_valid_after(now + lifetime)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(self.segment)]), critical=False)
            .add_extension(_leaf_key_usage(), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]),
                critical=False,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@dataclass(frozen=True, kw_only=True)
class DeviceCertificate:
    """What a device certificate says; reading it proves nothing about who signed it."""

    device: str
    segments: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    public_pem: bytes

    def renewal_due(self) -> datetime:
        """The moment at two thirds of its life."""
        return self.not_before + (self.not_after - self.not_before) * 2 / 3


@dataclass(frozen=True, kw_only=True)
class ServerIdentity:
    """The coordinator's own small authority, whose fingerprint goes into tokens, and its server certificate."""

    ca_pem: bytes
    certificate_pem: bytes  # the leaf, then the authority
    key_pem: bytes


def read_device_certificate(pem: bytes, *, where: str) -> DeviceCertificate:
    """Read a leaf certificate. Raises BadInput that names `where`."""
    certificate = _load_certificate(pem, where)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise BadInput(where, "names no segment", "enrol the device again") from None
    return DeviceCertificate(
        device=_common_name(certificate.subject),
        segments=tuple(names.get_values_for_type(x509.DNSName)),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        public_pem=_dump_public(_require_ec(certificate.public_key(), where)),
    )


def csr_public_key(csr_pem: bytes) -> ec.EllipticCurvePublicKey:
    """The public key of a signing request, once the request has proved possession of it. Raises BadInput."""
    where = "certificate signing request"
    if len(csr_pem) > MAX_PEM_BYTES:
        raise BadInput(where, f"is {len(csr_pem)} bytes, at most {MAX_PEM_BYTES} are read")
    try:
        request = x509.load_pem_x509_csr(csr_pem)
        is_valid = request.is_signature_valid
        public_key = request.public_key()
    except (ValueError, TypeError, InvalidSignature) as problem:
        raise BadInput(where, f"cannot be read: {problem}") from None
    if not is_valid:
        raise BadInput(where, "is not signed by the key that it names")
    return _require_ec(public_key, where)


def create_server_identity(names: Sequence[str], *, now: datetime) -> ServerIdentity:
    """Make an authority of its own and a server certificate for `names` (DNS names or IP addresses)."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = _self_signed("p2pd coordinator", ca_key, now)
    leaf = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SLACK)
        .not_valid_after(now + SERVER_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(_leaf_key_usage(), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    return ServerIdentity(
        ca_pem=ca.public_bytes(pem),
        certificate_pem=leaf.public_bytes(pem) + ca.public_bytes(pem),
        key_pem=_dump_key(key, None),
    )


def _self_signed(name: str, key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SLACK)
        .not_valid_after(now + AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_authority_key_usage(), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _leaf_key_usage() -> x509.KeyUsage:
    return _key_usage(digital_signature=True, signs_certificates=False)


def _authority_key_usage() -> x509.KeyUsage:
    return _key_usage(digital_signature=False, signs_certificates=True)


def _key_usage(*, digital_signature: bool, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _common_name(name: x509.Name) -> str:
    attributes = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(attributes[0].value) if attributes else ""


def _load_certificate(pem: bytes, where: str) -> x509.Certificate:
    if len(pem) > MAX_PEM_BYTES:
        raise BadInput(where, f"is {len(pem)} bytes, at most {MAX_PEM_BYTES} are read")
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as problem:
        raise BadInput(where, f"is not a certificate in PEM: {problem}") from None


def _load_key(pem: bytes, passphrase: bytes | None, where: str) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, passphrase)
    except (ValueError, TypeError) as problem:
        raise KeyUnavailable(f"{where}: cannot be read or decrypted ({problem})") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise KeyUnavailable(f"{where}: is not an elliptic-curve key")
    return key


def _dump_key(key: ec.EllipticCurvePrivateKey, passphrase: bytes | None) -> bytes:
    if passphrase is not None:
        return encrypt_private_key(key, passphrase)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _dump_public(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _require_ec(key: object, where: str) -> ec.EllipticCurvePublicKey:
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadInput(where, "must carry an ECDSA P-256 key")
    return key
