# SPDX-License-Identifier: Apache-2.0
"""Signing keys: encrypted files of ours, and any other store that securesystemslib reaches by URI.

`encrypted-file:release-1.pem` is an ed25519 key that a passphrase opens; `hsm:`, `awskms:`, `gcpkms:`, `azurekms:`,
`file2:` (an unencrypted file, for keys that a daemon opens unattended) and the rest are securesystemslib's.
"""

import os
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.exceptions import KeyMismatchError
from securesystemslib.signer import SIGNER_FOR_URI_SCHEME, CryptoSigner, Key, Signer, SSlibKey

from signing.durable_file import flush
from signing.encrypted_pkcs8 import encrypt_private_key
from signing.errors import BadInput, KeyUnavailable

ENCRYPTED_FILE = "encrypted-file"
MAX_KEY_FILE_BYTES = 16_384


def create_key_file(path: Path, passphrase: bytes) -> Key:
    """Make a new ed25519 key in `path`, encrypted, mode 0600, and return its public half.

    Never overwrites. Raises BadInput when `path` exists or the passphrase is empty.
    """
    if not passphrase:
        raise BadInput(str(path), "the passphrase is empty", "choose one, or use a file2: key for unattended use")
    private = Ed25519PrivateKey.generate()
    pem = encrypt_private_key(private, passphrase)
    # Read back what will be the only copy of the key, before anybody trusts its public half.
    load_pem_private_key(pem, passphrase)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise BadInput(str(path), "exists already", "a key is never overwritten: choose another name") from None
    except FileNotFoundError:
        raise BadInput(str(path), "its directory does not exist", f"make it: mkdir -m 700 {path.parent}") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    flush(path.parent)
    return SSlibKey.from_crypto(private.public_key())


def open_signer(uri: str, key: Key, passphrase: Callable[[str], bytes], *, base: Path = Path()) -> Signer:
    """Open the private half of `key` that `uri` names.

    `passphrase` is called with a name for what is asked for ("passphrase of release-1.pem", "pin"), if anything is;
    what it raises passes through. Relative paths of `encrypted-file:` are relative to `base`. Raises KeyUnavailable.
    """
    scheme, colon, rest = uri.partition(":")
    if scheme == ENCRYPTED_FILE and rest:
        return _open_file(base / rest, key, passphrase)
    if not colon or scheme not in SIGNER_FOR_URI_SCHEME:
        known = ", ".join(sorted([ENCRYPTED_FILE, *SIGNER_FOR_URI_SCHEME]))
        raise KeyUnavailable(f"key URI {uri!r}: unknown scheme; known are {known}")
    return _open_elsewhere(uri, key, passphrase)


def _open_file(path: Path, key: Key, passphrase: Callable[[str], bytes]) -> Signer:
    pem = _read_key_file(path)
    if b"-----BEGIN ENCRYPTED PRIVATE KEY-----" not in pem:
        raise KeyUnavailable(f"{path}: is not an encrypted PKCS8 key in PEM; an unencrypted one is a file2: key")
    secret = passphrase(f"passphrase of {path.name}")
    try:
        private = load_pem_private_key(pem, secret)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The library's words are left out: they cannot tell a wrong passphrase from damage either.
        raise KeyUnavailable(f"{path}: cannot be decrypted: wrong passphrase, or the file is damaged") from None
    if not isinstance(key, SSlibKey):
        raise KeyUnavailable(f"{path}: the metadata's key {key.keyid} is not of a kind that lives in files")
    try:
        return CryptoSigner(private, key)
    except KeyMismatchError:
        raise KeyUnavailable(f"{path}: holds another key than {key.keyid}, which the metadata names") from None
    except (ValueError, TypeError) as problem:
        raise KeyUnavailable(f"{path}: holds another kind of key than {key.keyid}: {problem}") from None


def _open_elsewhere(uri: str, key: Key, passphrase: Callable[[str], bytes]) -> Signer:
    secrets: list[str] = []
    refusals: list[BaseException] = []

    def ask(name: str) -> str:
        try:
            secrets.append(passphrase(name).decode())
        except BaseException as refusal:
            refusals.append(refusal)
            raise
        return secrets[-1]

    try:
        return Signer.from_priv_key_uri(uri, key, ask)
    # A signer may be anybody's plug-in and raise anything; its documentation asks for just this.
    except Exception as problem:
        if refusals:
            raise refusals[0] from None
        reason = " ".join(str(part) for part in problem.args) or type(problem).__name__
        if any(secret and secret in reason for secret in secrets):
            reason = type(problem).__name__
        raise KeyUnavailable(f"key {uri}: cannot be opened: {reason}") from None


def _read_key_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            pem = file.read(MAX_KEY_FILE_BYTES + 1)
    except OSError as problem:
        raise KeyUnavailable(f"{path}: cannot be read: {problem.strerror}") from None
    if len(pem) > MAX_KEY_FILE_BYTES:
        raise KeyUnavailable(f"{path}: is larger than any key file ({MAX_KEY_FILE_BYTES} bytes)")
    return pem
