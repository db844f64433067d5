# SPDX-License-Identifier: Apache-2.0
"""What verification has accepted, as types that nothing but verification can make.

Install and rollback take a VerifiedManifest or a VerifiedPayload and nothing else. Their constructors ask for a seal
that never leaves this module, so a value of these types *is* the proof that the checks were made.
"""

import hashlib
from dataclasses import InitVar, dataclass, field
from pathlib import Path

from signing.codec import decode
from signing.errors import BadInput, ContentMismatch
from signing.manifest import Content, Manifest, Transport

HASH_BUFFER_BYTES = 2**20
_SEAL = object()


@dataclass(frozen=True, kw_only=True)
class VerifiedManifest:
    """A manifest whose bytes have a vouched-for SHA-256: signed through TUF, or recorded when it was."""

    manifest: Manifest
    sha256: str
    data: bytes = field(repr=False)
    seal: InitVar[object] = None

    def __post_init__(self, seal: object) -> None:
        _check_seal(seal, self)


@dataclass(frozen=True, kw_only=True)
class VerifiedPayload:
    """The file at `path` held exactly the bytes of `transport`, one of the manifest's, when it was read and hashed.

    Without a transport it held the payload itself, uncompressed, as whoever applied a delta leaves it.
    Whoever reads it again must own the directory, so that nobody can exchange the file in between.
    """

    manifest: VerifiedManifest
    transport: Transport | None
    path: Path
    seal: InitVar[object] = None

    def __post_init__(self, seal: object) -> None:
        _check_seal(seal, self)


def open_manifest(data: bytes, *, sha256: str, where: str) -> VerifiedManifest:
    """Read a manifest whose digest somebody trustworthy vouches for; `where` names its source in errors.

    Raises ContentMismatch or BadInput.
    """
    actual = hashlib.sha256(data).hexdigest()
    if actual != sha256:
        raise ContentMismatch(where, expected=f"SHA-256 {sha256}", actual=f"SHA-256 {actual}")
    manifest = decode(Manifest, data, where=where)
    return VerifiedManifest(manifest=manifest, sha256=sha256, data=data, seal=_SEAL)


def reopen_committed(data: bytes, *, sha256: str) -> VerifiedManifest:
    """For rollback: a manifest whose digest the caller's own durable record holds since it was verified.

    Signatures and expiry were checked then and are not asked for again: expiry never blocks a rollback.
    """
    return open_manifest(data, sha256=sha256, where=f"committed manifest {sha256[:12]}")


class BegunDigest:
    """SHA-256 of the beginning of a file that is still being written, so that little is left to read at its end."""

    def __init__(self, path: Path) -> None:
        self.position = 0  # bytes that are in `digest`
        self.digest = hashlib.sha256()
        self._path = path

    def advance(self, until: int) -> None:
        """Read on up to the offset `until`, before which the file is final. Raises OSError."""
        with self._path.open("rb") as file:
            file.seek(self.position)
            while self.position < until and (chunk := file.read(min(HASH_BUFFER_BYTES, until - self.position))):
                self.digest.update(chunk)
                self.position += len(chunk)


def verify_payload(manifest: VerifiedManifest, path: Path, *, begun: BegunDigest | None = None) -> VerifiedPayload:
    """Hash the file at `path` and find which transport it is, or whether it is the payload itself.

    `begun` spares reading what it has read; should that give no digest of the manifest, all of the file is read.
    Raises ContentMismatch when it is neither, a delta for instance, and BadInput when it cannot be read.
    """
    whole: list[tuple[Content, Transport | None]] = [(way.content, way) for way in manifest.manifest.transports]
    whole.append((manifest.manifest.payload, None))
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if size not in {content.size for content, _ in whole}:
                sizes = " or ".join(str(content.size) for content, _ in whole)
                raise ContentMismatch(str(path), expected=f"{sizes} bytes", actual=f"{size} bytes")
            file.seek(begun.position if begun is not None else 0)
            digest = begun.digest.copy() if begun is not None else hashlib.sha256()
            while chunk := file.read(HASH_BUFFER_BYTES):
                digest.update(chunk)
    except OSError as problem:
        raise BadInput(str(path), problem.strerror or str(problem)) from problem
    actual = digest.hexdigest()
    for content, transport in whole:
        if (content.sha256, content.size) == (actual, size):
            return VerifiedPayload(manifest=manifest, transport=transport, path=path, seal=_SEAL)
    if begun is not None:
        return verify_payload(manifest, path)
    expected = " or ".join(f"SHA-256 {content.sha256}" for content, _ in whole)
    raise ContentMismatch(str(path), expected=expected, actual=f"SHA-256 {actual}")


def _check_seal(seal: object, value: object) -> None:
    if seal is not _SEAL:
        raise TypeError(f"{type(value).__name__} is made by verification only: see signing.trust")
