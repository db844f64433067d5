# SPDX-License-Identifier: Apache-2.0
"""The root-owned store of releases: each one's signed manifest, and its transport, from which it can be unpacked again.

releases/PRODUCT/MANIFEST-SHA256/manifest
releases/PRODUCT/MANIFEST-SHA256/transport
"""

import os
from collections.abc import Collection
from pathlib import Path

from p2pd.host.atomic_file import read_bounded
from p2pd.installer.disk import Disk, write_new_file
from p2pd.installer.journal import Release
from p2pd.installer.tree import open_regular
from signing.errors import ContentMismatch
from signing.manifest import Manifest
from signing.trust import VerifiedManifest, VerifiedPayload, reopen_committed, verify_payload

COPY_BYTES = 1 << 20


class ReleaseStore:
    """Releases of all products below `directory`, readable by this process' user only."""

    def __init__(self, directory: Path, disk: Disk) -> None:
        self._directory = directory
        self._disk = disk

    def keep(self, manifest: VerifiedManifest, transport: Path) -> VerifiedPayload:
        """Copy `transport` in and verify the copy, so that nobody can change the bytes after they were checked.

        Raises ContentMismatch or BadInput if the file is not what the manifest signs, OSError if it cannot be copied.
        """
        product = self._directory / manifest.manifest.product
        release = product / manifest.sha256
        self._disk.remove_tree(release)  # left by an interruption, or unwanted since
        self._disk.make_directory(product)
        self._disk.make_directory(release)
        write_new_file(self._disk, release / "manifest", manifest.data)
        self._copy(transport, release / "transport", {t.content.size for t in manifest.manifest.transports})
        payload = verify_payload(manifest, release / "transport")
        for directory in (release, product, self._directory):
            self._disk.sync_directory(directory)
        return payload

    def reopen(self, product: str, release: Release) -> VerifiedPayload:
        """Verify a stored release again, from its digest in the journal down to its last byte. Expiry plays no part.

        Raises SigningError if anything differs, OSError if anything cannot be read.
        """
        directory = self._directory / product / release.manifest_sha256
        data = read_bounded(directory / "manifest", Manifest.max_bytes)
        manifest = reopen_committed(data, sha256=release.manifest_sha256)
        return verify_payload(manifest, directory / "transport")

    def keep_only(self, product: str, manifests: Collection[str]) -> None:
        """Remove every release of `product` but those with the manifests named."""
        directory = self._directory / product
        if directory.is_dir():
            for path in sorted(directory.iterdir()):
                if path.name not in manifests:
                    self._disk.remove_tree(path)

    def _copy(self, source: Path, target: Path, sizes: Collection[int]) -> None:
        # The path comes from an unprivileged process: no link, no pipe to hang on, no file of any other size.
        with open_regular(source) as reader:
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
