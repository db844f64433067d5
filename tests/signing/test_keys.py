# SPDX-License-Identifier: Apache-2.0
"""Key files: what is on disk, who can open it, and what the errors say (and never say)."""

import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from securesystemslib.signer import (
    SIGNER_FOR_URI_SCHEME,
    CryptoSigner,
    GPGKey,
    Key,
    SecretsHandler,
    Signature,
    Signer,
    SSlibKey,
)

from signing.errors import BadInput, KeyUnavailable
from signing.keys import MAX_KEY_FILE_BYTES, create_key_file, open_signer

PASSPHRASE = b"correct horse battery staple"


def answer(passphrase: bytes) -> Callable[[str], bytes]:
    return lambda name: passphrase


def never_asked(name: str) -> bytes:
    raise AssertionError(f"asked for {name}")


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Key]:
    """A key file, made once: the derivation of its key is slow on purpose."""
    path = tmp_path_factory.mktemp("keys") / "release-1.pem"
    return path, create_key_file(path, PASSPHRASE)


def test_a_key_file_signs_after_its_passphrase_is_given(stored: tuple[Path, Key]) -> None:
    path, key = stored
    asked: list[str] = []

    def passphrase(name: str) -> bytes:
        asked.append(name)
        return PASSPHRASE

    signer = open_signer(f"encrypted-file:{path}", key, passphrase)
    key.verify_signature(signer.sign(b"metadata"), b"metadata")
    assert asked == ["passphrase of release-1.pem"]


def test_a_relative_path_starts_at_the_base_directory(stored: tuple[Path, Key]) -> None:
    path, key = stored
    signer = open_signer("encrypted-file:release-1.pem", key, answer(PASSPHRASE), base=path.parent)
    assert signer.public_key == key


def test_only_the_owner_reads_a_key_file_and_it_holds_no_plain_key(stored: tuple[Path, Key]) -> None:
    path, _ = stored
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    private = load_pem_private_key(path.read_bytes(), PASSPHRASE)
    assert isinstance(private, Ed25519PrivateKey)
    assert private.private_bytes_raw() not in path.read_bytes()
    assert path.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n")


def test_openssl_reads_a_key_file_and_sees_scrypt(stored: tuple[Path, Key]) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("the openssl command is not installed")
    path, key = stored
    command = [openssl, "pkey", "-in", str(path), "-passin", "stdin", "-pubout"]
    public = subprocess.run(command, input=PASSPHRASE, capture_output=True, check=True).stdout
    assert SSlibKey.from_crypto(load_pem_public_key(public)) == key
    structure = subprocess.run([openssl, "asn1parse", "-in", str(path)], capture_output=True, check=True).stdout
    assert b":scrypt" in structure
    assert b":aes-256-cbc" in structure


def test_two_keys_with_one_passphrase_share_no_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "1.pem", tmp_path / "2.pem"
    assert create_key_file(first, PASSPHRASE) != create_key_file(second, PASSPHRASE)
    assert first.read_bytes()[80:] != second.read_bytes()[80:]


def test_a_key_is_never_overwritten(stored: tuple[Path, Key]) -> None:
    path, _ = stored
    before = path.read_bytes()
    with pytest.raises(BadInput, match="never overwritten"):
        create_key_file(path, PASSPHRASE)
    assert path.read_bytes() == before


def test_an_empty_passphrase_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="passphrase is empty"):
        create_key_file(tmp_path / "key.pem", b"")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"mkdir -m 700 .*/absent"):
        create_key_file(tmp_path / "absent" / "key.pem", PASSPHRASE)


def test_a_failed_write_leaves_no_half_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("signing.keys.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        create_key_file(tmp_path / "key.pem", PASSPHRASE)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_passphrase_is_not_repeated_in_the_error(stored: tuple[Path, Key]) -> None:
    path, key = stored
    with pytest.raises(KeyUnavailable, match="wrong passphrase") as caught:
        open_signer(f"encrypted-file:{path}", key, answer(b"hunter2-hunter2"))
    assert "hunter2" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named_before_anything_is_asked(tmp_path: Path, stored: tuple[Path, Key]) -> None:
    with pytest.raises(KeyUnavailable, match=r"absent\.pem: cannot be read: No such file"):
        open_signer("encrypted-file:absent.pem", stored[1], never_asked, base=tmp_path)


def test_another_key_than_the_metadata_names_is_refused(stored: tuple[Path, Key]) -> None:
    other = CryptoSigner.generate_ed25519().public_key
    with pytest.raises(KeyUnavailable, match=f"another key than {other.keyid}"):
        open_signer(f"encrypted-file:{stored[0]}", other, answer(PASSPHRASE))


def test_a_key_of_another_kind_is_refused(tmp_path: Path, stored: tuple[Path, Key]) -> None:
    path = tmp_path / "ec.pem"
    private = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PASSPHRASE)))
    with pytest.raises(KeyUnavailable, match="another kind of key"):
        open_signer(f"encrypted-file:{path}", stored[1], answer(PASSPHRASE))
    with pytest.raises(KeyUnavailable, match="not of a kind that lives in files"):
        open_signer(f"encrypted-file:{path}", GPGKey("aa", "rsa", "pgp+rsa-pkcsv1.5", {}), answer(PASSPHRASE))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an encrypted PKCS8"),
        (b"x" * (MAX_KEY_FILE_BYTES + 1), "larger than any key file"),
        (
            Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            "an unencrypted one is a file2: key",
        ),
    ],
)
def test_what_is_no_encrypted_key_is_refused_without_asking(
    tmp_path: Path, stored: tuple[Path, Key], content: bytes, message: str
) -> None:
    (tmp_path / "key.pem").write_bytes(content)
    with pytest.raises(KeyUnavailable, match=message):
        open_signer("encrypted-file:key.pem", stored[1], never_asked, base=tmp_path)


def test_a_truncated_key_file_is_refused(tmp_path: Path, stored: tuple[Path, Key]) -> None:
    (tmp_path / "key.pem").write_bytes(stored[0].read_bytes()[:-60])
    with pytest.raises(KeyUnavailable, match="the file is damaged"):
        open_signer("encrypted-file:key.pem", stored[1], answer(PASSPHRASE), base=tmp_path)


def test_other_schemes_are_securesystemslibs(tmp_path: Path) -> None:
    signer = CryptoSigner.generate_ed25519()
    (tmp_path / "plain.pem").write_bytes(signer.private_bytes)
    opened = open_signer(f"file2:{tmp_path / 'plain.pem'}", signer.public_key, never_asked)
    signer.public_key.verify_signature(opened.sign(b"metadata"), b"metadata")


def test_a_missing_file_of_another_scheme_is_a_clear_refusal(tmp_path: Path) -> None:
    key = CryptoSigner.generate_ed25519().public_key
    with pytest.raises(KeyUnavailable, match=r"file2:.*absent\.pem: cannot be opened: Private key not found"):
        open_signer(f"file2:{tmp_path / 'absent.pem'}", key, never_asked)


@pytest.mark.parametrize("uri", ["release-1.pem", "floppy:release-1.pem", "encrypted-file:", ""])
def test_an_unknown_scheme_lists_the_known_ones(uri: str, stored: tuple[Path, Key]) -> None:
    with pytest.raises(KeyUnavailable, match=r"unknown scheme; known are .*encrypted-file.*hsm"):
        open_signer(uri, stored[1], never_asked)


class LoudSigner(Signer):
    """A plug-in that asks for a PIN and then complains with it."""

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: SecretsHandler | None = None
    ) -> Signer:
        assert secrets_handler is not None
        raise RuntimeError(f"token refused PIN {secrets_handler('pin')}")

    @property
    def public_key(self) -> Key:
        raise NotImplementedError

    def sign(self, payload: bytes) -> Signature:
        raise NotImplementedError


def test_a_plug_in_cannot_leak_the_pin_through_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIGNER_FOR_URI_SCHEME, "loud", LoudSigner)
    key = CryptoSigner.generate_ed25519().public_key
    with pytest.raises(KeyUnavailable, match="RuntimeError") as caught:
        open_signer("loud:1", key, answer(b"493817"))
    assert "493817" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_person_who_gives_up_at_the_prompt_is_not_a_broken_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIGNER_FOR_URI_SCHEME, "loud", LoudSigner)
    key = CryptoSigner.generate_ed25519().public_key

    class GaveUp(RuntimeError):
        pass

    def give_up(name: str) -> bytes:
        raise GaveUp

    with pytest.raises(GaveUp):
        open_signer("loud:1", key, give_up)
