# SPDX-License-Identifier: Apache-2.0
"""The root-owned store of releases: each one's signed manifest, and its transport, from which it can be unpacked again.

releases/PRODUCT/MANIFEST-SHA256/manifest
releases/PRODUCT/MANIFEST-SHA256/transport      or the payload itself, which the agent made by a delta; never a delta
"""

import errno
import io
import os
from collections.abc import Collection
from pathlib import Path

from p2pd.host.atomic_file import read_bounded
from p2pd.installer.disk import Disk, write_new_file
from p2pd.installer.journal import Release
from p2pd.installer.refusal import InstallRefused
from p2pd.installer.tree import open_regular
from signing.errors import BadInput, ContentMismatch
from signing.manifest import Manifest
from signing.reasons import Reason
from signing.trust import VerifiedManifest, VerifiedPayload, reopen_committed, verify_payload

COPY_BYTES = 1 << 20
_NO_FILE_THERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL, errno.ENXIO, errno.EISDIR}


class ReleaseStore:
    """Releases of all products below `directory`, readable by this process' user only."""

    def __init__(self, directory: Path, disk: Disk) -> None:
        self._directory = directory
        self._disk = disk

    def keep(self, manifest: VerifiedManifest, transport: Path) -> VerifiedPayload:
        """Copy `transport` in and verify the copy, so that nobody can change the bytes after they were checked.

        Raises InstallRefused (payload_missing) if there is no such file, ContentMismatch if it is not what the manifest
        signs, OSError if it cannot be copied.
        """
        product = self._directory / manifest.manifest.product
        release = product / manifest.sha256
        self._disk.remove_tree(release)  # left by an interruption, or unwanted since
        self._disk.make_directory(product)
        self._disk.make_directory(release)
        write_new_file(self._disk, release / "manifest", manifest.data)
        sizes = {t.content.size for t in manifest.manifest.transports} | {manifest.manifest.payload.size}
        self._copy(transport, release / "transport", sizes)
        payload = _verify(manifest, release / "transport")
        for directory in (release, product, self._directory):
            self._disk.sync_directory(directory)
        return payload

    def reopen(self, product: str, release: Release) -> VerifiedPayload:
        """Verify a stored release again, from its digest in the journal down to its last byte. Expiry plays no part.

        Raises SigningError if anything differs or is gone, OSError if the disk does not let it be read.
        """
        directory = self._directory / product / release.manifest_sha256
        try:
            data = read_bounded(directory / "manifest", Manifest.max_bytes)
            manifest = reopen_committed(data, sha256=release.manifest_sha256)
            return _verify(manifest, directory / "transport")
        except OSError as problem:
            if problem.errno in _NO_FILE_THERE:
                raise BadInput(str(problem.filename), f"is not there ({problem.strerror})") from problem
            raise

    def keep_only(self, product: str, manifests: Collection[str]) -> None:
        """Remove every release of `product` but those with the manifests named."""
        directory = self._directory / product
        if directory.is_dir():
            for path in sorted(directory.iterdir()):
                if path.name not in manifests:
                    self._disk.remove_tree(path)

    def _copy(self, source: Path, target: Path, sizes: Collection[int]) -> None:
        # The path comes from an unprivileged process: no link, no pipe to hang on, no file of any other size.
        with _open_handed_over(source) as reader:
            facts = os.fstat(reader.fileno())
            if facts.st_size not in sizes:
                expected = " or ".join(str(size) for size in sorted(sizes))
                raise ContentMismatch(str(source), expected=f"{expected} bytes", actual=f"{facts.st_size} bytes")
            self._disk.require_space(target.parent, facts.st_size)
            left = facts.st_size
            with os.fdopen(self._disk.create_file(target), "wb") as writer:
                while left and (chunk := reader.read(min(left, COPY_BYTES))):
                    writer.write(chunk)
                    left -= len(chunk)
                writer.flush()
                self._disk.sync_file(writer.fileno())


def _open_handed_over(path: Path) -> io.FileIO:
    try:
        return open_regular(path)
    except OSError as problem:
        if problem.errno not in _NO_FILE_THERE:
            raise
        missing = f"{path}: there is no regular file to install ({problem.strerror}); fetch the payload again"
        raise InstallRefused(Reason.PAYLOAD_MISSING, missing) from problem


def _verify(manifest: VerifiedManifest, path: Path) -> VerifiedPayload:
    """Whether our own disk failed or the bytes are other ones makes all the difference to whoever may try again."""
    try:
        return verify_payload(manifest, path)
    except BadInput as problem:
        if isinstance(problem.__cause__, OSError):
            raise problem.__cause__ from None
        raise
