# SPDX-License-Identifier: Apache-2.0
"""Private keys as PKCS#8 encrypted with scrypt and AES-256, which OpenSSL and cryptography both read.

Written here because cryptography reads this format and cannot write it: its `BestAvailableEncryption` derives the key
with 2,048 rounds of PBKDF2, which a graphics card tries millions of times a second.
"""

import base64
import os
import textwrap

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

# OWASP's password storage cheat sheet lists N = 2^14, r = 8, p = 5 as equal to its first choice, N = 2^17 and p = 1;
# it takes 16 MiB, where OpenSSL refuses to read what needs more than 32.
_SCRYPT_N, _SCRYPT_R, _SCRYPT_P = 2**14, 8, 5
_SALT_BYTES = 16
_AES_KEY_BYTES = 32

# Object identifiers, as encoded: RFC 8018 appendix A.4 (PBES2), RFC 7914 section 7 (scrypt), NIST (AES-256-CBC).
_PBES2 = bytes.fromhex("06092a864886f70d01050d")
_SCRYPT = bytes.fromhex("06092b06010401da47040b")
_AES256_CBC = bytes.fromhex("060960864801650304012a")

_SEQUENCE, _OCTET_STRING, _INTEGER = 0x30, 0x04, 0x02


def encrypt_private_key(key: Ed25519PrivateKey | EllipticCurvePrivateKey, passphrase: bytes) -> bytes:
    """Return `key` as an `ENCRYPTED PRIVATE KEY` in PEM."""
    salt, iv = os.urandom(_SALT_BYTES), os.urandom(algorithms.AES.block_size // 8)
    cipher_key = Scrypt(salt=salt, length=_AES_KEY_BYTES, n=_SCRYPT_N, r=_SCRYPT_R, p=_SCRYPT_P).derive(passphrase)
    plain = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    padder = PKCS7(algorithms.AES.block_size).padder()
    encryptor = Cipher(algorithms.AES(cipher_key), modes.CBC(iv)).encryptor()
    secret = encryptor.update(padder.update(plain) + padder.finalize()) + encryptor.finalize()
    derivation = _der(
        _SEQUENCE, _der(_OCTET_STRING, salt), *(_integer(number) for number in (_SCRYPT_N, _SCRYPT_R, _SCRYPT_P))
    )
    scheme = _der(
        _SEQUENCE,
        _der(_SEQUENCE, _SCRYPT, derivation),
        _der(_SEQUENCE, _AES256_CBC, _der(_OCTET_STRING, iv)),
    )
    return _pem(_der(_SEQUENCE, _der(_SEQUENCE, _PBES2, scheme), _der(_OCTET_STRING, secret)))


def _der(tag: int, *contents: bytes) -> bytes:
    body = b"".join(contents)
    length = len(body)
    if length < 0x80:
        return bytes([tag, length]) + body
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + body


def _integer(number: int) -> bytes:
    # One bit more than the number has: DER's integers are signed, and ours positive.
    return _der(_INTEGER, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def _pem(der: bytes) -> bytes:
    lines = textwrap.wrap(base64.b64encode(der).decode("ascii"), 64)
    return "\n".join(
        ["-----BEGIN ENCRYPTED PRIVATE KEY-----", *lines, "-----END ENCRYPTED PRIVATE KEY-----", ""]
    ).encode()
