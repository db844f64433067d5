# SPDX-License-Identifier: Apache-2.0
"""TLS contexts, for either side of a connection, with nothing left to chance: 1.2 at least, peers always verified."""

import ssl
from pathlib import Path

from signing.errors import BadInput


def client_context(*, ca_pem: bytes, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """For dialling a server whose certificate chains to `ca_pem`, and to nothing else on this machine.

    `certificate` and `key` (both or neither) are shown when the server asks for a client certificate. Raises BadInput.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies the chain and the name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _trust(context, ca_pem, where="CA certificate")
    if certificate is not None and key is not None:
        identify(context, certificate, key)
    elif certificate is not None or key is not None:
        raise BadInput(str(certificate or key), "a certificate and its key go together", "name both, or neither")
    return context


def peer_context(*, ca_pem: bytes, certificate: Path, key: Path) -> ssl.SSLContext:
    """For dialling a peer by its address: any certificate of `ca_pem` will do, whatever names it carries.

    Who listens on the wire learns no name: TLS asks for none in clear, and from 1.3 on it encrypts certificates.
    Raises BadInput.
    """
    context = client_context(ca_pem=ca_pem, certificate=certificate, key=key)
    context.check_hostname = False
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def server_context(*, certificate: Path, key: Path, client_ca: Path | None = None) -> ssl.SSLContext:
    """For HTTP/1.1 with `certificate` (its chain included). With `client_ca`, who has no certificate of it is refused.

    Raises BadInput.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    identify(context, certificate, key)
    if client_ca is not None:
        try:
            ca_pem = client_ca.read_bytes()
        except OSError as problem:
            raise BadInput(str(client_ca), f"cannot be read ({problem.strerror})") from problem
        _trust(context, ca_pem, where=str(client_ca))
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _trust(context: ssl.SSLContext, ca_pem: bytes, *, where: str) -> None:
    try:
        # Bundles carry comments in any alphabet between the certificates; OpenSSL takes ASCII only.
        context.load_verify_locations(cadata=ca_pem.decode("ascii", "ignore"))
    except (ssl.SSLError, ValueError):
        raise BadInput(where, "holds no PEM certificate") from None


def identify(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Show `certificate` in all handshakes to come, in place of whatever was shown. Raises BadInput."""
    for path in (certificate, key):
        try:
            path.open("rb").close()
        except OSError as problem:
            raise BadInput(str(path), f"cannot be read ({problem.strerror})") from problem
    try:
        context.load_cert_chain(certificate, key, password=_refuse_passphrase)
    except _EncryptedKey:
        raise BadInput(str(key), "is encrypted", "give a key file without a passphrase, mode 0600") from None
    except ssl.SSLError as problem:
        fault = "do not belong together" if problem.reason == "KEY_VALUES_MISMATCH" else "hold no certificate and key"
        raise BadInput(f"{certificate} and {key}", fault) from None


class _EncryptedKey(Exception):
    """OpenSSL asked for a passphrase."""


def _refuse_passphrase() -> str:
    # Without this answer OpenSSL would ask on the terminal, and a daemon would wait for ever.
    raise _EncryptedKey
