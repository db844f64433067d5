# SPDX-License-Identifier: Apache-2.0
"""Small releases for the tests of p2pd-install, and one endpoint to install them on."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import zstandard

from p2pd.installer.disk import Disk
from p2pd.installer.fallback import Fallbacks
from p2pd.installer.installers import find_installer
from p2pd.installer.journal import Journal
from p2pd.installer.products import Products
from p2pd.installer.store import ReleaseStore
from signing.codec import encode
from signing.manifest import Content, Manifest, SegmentTorrent, Transport
from signing.recall import Recall
from signing.trust import VerifiedManifest, reopen_committed
from tests.hostile.archives import DIRECTORY, SYMLINK, tar, tar_member

NOW = 1_800_000_000
FIRST_FILES = {"bin/tool": b"#!/bin/sh\necho first\n", "data/big": bytes(range(256)) * 9, "readme": b"first\n"}
SECOND_FILES = {"bin/tool": b"#!/bin/sh\necho second\n", "data/new": b"new" * 1_000, "readme": b"second\n"}
THIRD_FILES = {"readme": b"third\n"}


@dataclass(frozen=True)
class MadeRelease:
    """A release as an administrator would have made it, with its transport file."""

    manifest: VerifiedManifest
    transport: Path
    files: Mapping[str, bytes] = field(repr=False)

    @property
    def sha256(self) -> str:
        """The digest that names the release."""
        return self.manifest.sha256


def content_of(data: bytes) -> Content:
    """What a manifest says of `data`."""
    return Content(sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def payload_of(files: Mapping[str, bytes]) -> bytes:
    """A tar of `files` with their directories, one executable (`bin/…`) and one symbolic link (`link`)."""
    folders = sorted({name.rpartition("/")[0] for name in files if "/" in name})
    members = [tar_member(folder, kind=DIRECTORY, mode=0o755) for folder in folders]
    members += [
        tar_member(name, data, mode=0o755 if name.startswith("bin/") else 0o644) for name, data in sorted(files.items())
    ]
    return tar(*members, tar_member("link", kind=SYMLINK, link="readme"))


def make_manifest(
    payload: bytes, transport: bytes, *, product: str = "tool", version: str = "1", counter: int = 1, **more: Any
) -> Manifest:
    """A manifest over those bytes."""
    torrent = SegmentTorrent(segment="default", info_hash="0" * 64, target="patches/tool/1/default.torrent")
    return Manifest(
        product=product,
        version=version,
        release_counter=counter,
        payload=content_of(payload),
        transports=(Transport(codec="zstd", content=content_of(transport), torrents=(torrent,)),),
        **more,
    )


def verified(manifest: Manifest) -> VerifiedManifest:
    """The manifest as verification would hand it over."""
    data = encode(manifest)
    return reopen_committed(data, sha256=hashlib.sha256(data).hexdigest())


def make_release(
    directory: Path,
    version: str = "1",
    counter: int = 1,
    files: Mapping[str, bytes] = FIRST_FILES,
    *,
    payload: bytes | None = None,
    **more: Any,
) -> MadeRelease:
    """Write a transport into `directory` and describe it. `payload` replaces the tar of `files`."""
    payload = payload_of(files) if payload is None else payload
    transport = zstandard.ZstdCompressor().compress(payload)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{version}-{counter}.transport"
    path.write_bytes(transport)
    manifest = make_manifest(payload, transport, version=version, counter=counter, **more)
    return MadeRelease(verified(manifest), path, dict(files))


class KnownRecalls:
    """Recalls that a test decrees."""

    def __init__(self) -> None:
        self.withdrawn: set[str] = set()

    def recall_of(self, manifest_sha256: str) -> Recall | None:
        """The recall of that release."""
        if manifest_sha256 not in self.withdrawn:
            return None
        return Recall(product="tool", version="1", manifest_sha256=manifest_sha256, why="it eats disks")


class Endpoint:
    """What p2pd-install has on one endpoint's disk below `directory`. Make another over it for a restart."""

    def __init__(self, directory: Path, disk: Disk | None = None) -> None:
        self.directory = directory
        self.disk = disk or Disk()
        self.recalls = KnownRecalls()
        self.journal = Journal(directory / "state/journal", self.disk)
        self.store = ReleaseStore(directory / "state/releases", self.disk)
        for folder in ("state/journal", "state/releases", "root/products"):
            (directory / folder).mkdir(parents=True, exist_ok=True)
        self.products = Products(
            journal=self.journal,
            store=self.store,
            directory=directory / "root/products",
            find_installer=find_installer,
            fallbacks=Fallbacks(self.store, self.recalls),
            disk=self.disk,
            unix_now=lambda: NOW,
        )

    @property
    def current(self) -> Path:
        """The link to what is in use of the product `tool`."""
        return self.directory / "root/products/tool/current"

    def install(self, release: MadeRelease, *, commit: bool = False) -> None:
        """Install, and let it prove itself."""
        self.products.install(release.manifest, release.transport)
        if commit:
            self.products.commit("tool", release.sha256)

    def in_use(self) -> dict[str, bytes] | None:
        """The files that are in use, read through `current`; None if there is nothing."""
        return read_files(self.current) if self.current.is_symlink() else None

    def listing(self) -> list[str]:
        """Every path below the directory but the tests' own."""
        return sorted(str(path.relative_to(self.directory)) for path in self.directory.rglob("*"))

    def slots(self) -> list[str]:
        """Names of what is unpacked."""
        folder = self.current.parent / "slots"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []

    def stored(self) -> list[str]:
        """Manifests of the releases that are kept."""
        folder = self.directory / "state/releases/tool"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def read_files(directory: Path) -> dict[str, bytes]:
    """Contents of all regular files below `directory`, links left out. The directory must be there."""
    assert directory.is_dir(), f"{directory} leads nowhere"
    base = directory.resolve()
    paths = (Path(folder, name) for folder, _, names in os.walk(base) for name in names)
    return {str(path.relative_to(base)): path.read_bytes() for path in paths if not path.is_symlink()}


def damaged(release: MadeRelease, **changes: Any) -> VerifiedManifest:
    """The release's manifest with other facts, signed as if they were true."""
    return verified(replace(release.manifest.manifest, **changes))
