# SPDX-License-Identifier: Apache-2.0
"""DSSE envelopes around documents that devices sign: identity is in the message, not in the connection.

So a proxy or a peer may carry a report, and an auditor may check it years later. The envelope is the JSON form of
https://github.com/secure-systems-lab/dsse, its payload the document's msgpack bytes.
"""

import json
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import FormatError, VerificationError
from securesystemslib.signer import CryptoSigner, SSlibKey

from signing.codec import Document, decode, encode
from signing.devices import DeviceKey
from signing.errors import BadInput, NotSigned

D = TypeVar("D", bound=Document)

_OVERHEAD_BYTES = 4_096  # signature, key id, type and JSON around the base64 payload


def seal(document: Document, key: DeviceKey) -> bytes:
    """Sign `document` with a device key; the envelope in JSON."""
    signer = CryptoSigner(key.private_key, _public_key(key.public_pem))
    envelope = Envelope(encode(document), _payload_type(type(document)), {})
    envelope.sign(signer)
    return json.dumps(envelope.to_dict(), separators=(",", ":")).encode()


def open_envelope(cls: type[D], data: bytes, public_pem: bytes, *, where: str) -> D:
    """Read a document whose envelope the device with `public_pem` signed. Raises BadInput or NotSigned."""
    envelope = _parse(cls, data, where)
    _check_signature(envelope, public_pem, where)
    return decode(cls, envelope.payload, where=where)


def open_by_signer(cls: type[D], data: bytes, key_of: Callable[[D], bytes], *, where: str) -> D:
    """Read a document that says itself who signed it; `key_of` gives that device's key, or raises.

    What it is given has been read but not verified. Raises BadInput or NotSigned.
    """
    envelope = _parse(cls, data, where)
    document = decode(cls, envelope.payload, where=where)
    _check_signature(envelope, key_of(document), where)
    return document


def peek(cls: type[D], data: bytes, *, where: str) -> D:
    """Read a document WITHOUT checking its signature: only to learn which device's key to check it with."""
    return decode(cls, _parse(cls, data, where).payload, where=where)


def max_envelope_bytes(cls: type[Document]) -> int:
    """The most bytes that an envelope around a `cls` may take."""
    return cls.max_bytes * 4 // 3 + _OVERHEAD_BYTES


def _parse(cls: type[Document], data: bytes, where: str) -> Envelope:
    if len(data) > max_envelope_bytes(cls):
        raise BadInput(where, f"is {len(data)} bytes, an envelope here has at most {max_envelope_bytes(cls)}")
    try:
        raw = json.loads(data)
        if not isinstance(raw, dict):
            raise BadInput(where, "is not a DSSE envelope")
        envelope = Envelope.from_dict(raw)
    except (ValueError, KeyError, TypeError, AttributeError, FormatError, RecursionError) as problem:
        raise BadInput(where, f"is not a DSSE envelope ({type(problem).__name__})") from None
    if envelope.payload_type != _payload_type(cls):
        raise BadInput(where, f"carries {envelope.payload_type!r}, expected {_payload_type(cls)!r}")
    return envelope


def _check_signature(envelope: Envelope, public_pem: bytes, where: str) -> None:
    try:
        envelope.verify([_public_key(public_pem)], 1)
    except VerificationError:
        raise NotSigned(f"{where}: not signed by the device that it names") from None


def _payload_type(cls: type[Document]) -> str:
    return f"application/vnd.{cls.document}+msgpack"


@lru_cache(maxsize=1_024)  # reading a key takes longer than checking a signature with it; half a kilobyte each
def _public_key(public_pem: bytes) -> SSlibKey:
    key = load_pem_public_key(public_pem)
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise BadInput("device public key", "is not an elliptic-curve key")
    return SSlibKey.from_crypto(key)
