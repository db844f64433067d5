# SPDX-License-Identifier: Apache-2.0
"""A repository on disk: where its files lie, and how a new edition takes the place of the old one.

    metadata/3.root.json  metadata/7.patches.json  metadata/41.snapshot.json …  metadata/timestamp.json
    targets/patches/tzdata/2025.2/<sha256>.manifest

Files with a version or a hash in their name are never changed. An edition arrives in this order: target files, roles,
snapshot, `<n>.timestamp.json`, and at last that file becomes `timestamp.json`. So a reader sees the old edition or
the new one; and `<n>.timestamp.json` is also the journal: whoever locks the repository after a crash finishes the move.
"""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TypeVar

from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets, Timestamp

from signing.durable_file import read_at_most
from signing.edition import Edition
from signing.errors import BadInput, ContentMismatch, NotSigned
from signing.file_tree import remove_unfinished, rename, write_files, write_together
from signing.roles import ROLES
from signing.tuf_errors import blamed

MAX_METADATA_BYTES = 5_000_000  # of one role: trust clients and mirrors accept no more
MAX_TARGET_BYTES = 32 * 2**20  # a torrent of 64 GiB has 8 MiB of piece hashes; a recall list may have 8 MiB

_VERSIONED = re.compile(rf"([1-9][0-9]*)\.({'|'.join(ROLES)})\.json")

S = TypeVar("S", Root, Timestamp, Snapshot, Targets)


class RepositoryFiles:
    """The published files below `directory`. Writers hold the repository's lock; readers need none."""

    def __init__(self, directory: Path) -> None:
        self.metadata = directory / "metadata"
        self.targets = directory / "targets"
        self._timestamp = self.metadata / "timestamp.json"

    def path_of(self, role: str, version: int) -> Path:
        """Where that version of a role's metadata lies."""
        return self.metadata / f"{version}.{role}.json"

    def target_file(self, target: TargetFile) -> Path:
        """Where that content of a target lies."""
        (name,) = target.get_prefixed_paths()  # one hash: SHA-256, see `describe`
        return self.targets / name

    def versions(self) -> dict[str, list[int]]:
        """All versions on disk by role, ascending; timestamp.json itself is not among them."""
        found: dict[str, list[int]] = {role: [] for role in ROLES}
        for path in self.metadata.iterdir():
            if match := _VERSIONED.fullmatch(path.name):
                found[match[2]].append(int(match[1]))
        return {role: sorted(versions) for role, versions in found.items()}

    def newest_version(self, role: str) -> int:
        """The highest version that was ever written, published or not: the next one must be higher."""
        published = [self.timestamp().signed.version] if role == "timestamp" else []
        return max(published + self.versions()[role])

    def exists(self) -> bool:
        """Whether an edition was ever published here."""
        return self._timestamp.exists()

    def timestamp(self) -> Metadata[Timestamp]:
        """The published timestamp. Raises BadInput when there is none."""
        try:
            return load(Timestamp, self._timestamp)
        except FileNotFoundError:
            remedy = "make one with `p2pctl init`"
            raise BadInput(str(self.metadata.parent), "is not a p2pd repository", remedy) from None

    def root(self) -> Metadata[Root]:
        """The newest root. Raises BadInput when there is none."""
        versions = self.versions()["root"]
        if not versions:
            raise BadInput(str(self.metadata), "holds no <n>.root.json", "restore it from a backup or from any mirror")
        return load(Root, self.path_of("root", versions[-1]))

    def role(self, role: str, version: int) -> Metadata[Targets]:
        """One version of a role that signs targets."""
        return load(Targets, self.path_of(role, version))

    def snapshot(self, version: int) -> Metadata[Snapshot]:
        """One version of the snapshot."""
        return load(Snapshot, self.path_of("snapshot", version))

    def edition(self, timestamp: Metadata[Timestamp] | None = None) -> Edition:
        """What is published, or what `timestamp` would publish. Raises BadInput or FileNotFoundError when damaged."""
        timestamp = timestamp or self.timestamp()
        snapshot = self.snapshot(timestamp.signed.snapshot_meta.version)
        names = {name.removesuffix(".json"): meta.version for name, meta in snapshot.signed.meta.items()}
        roles = {name: self.role(name, version) for name, version in names.items()}
        return Edition(root=self.root(), timestamp=timestamp, snapshot=snapshot, roles=roles)

    def read_target(self, target: TargetFile) -> bytes:
        """The content of a published target. Raises ContentMismatch when the disk holds something else."""
        path = self.target_file(target)
        data = read_at_most(path, MAX_TARGET_BYTES)
        verify_content(target, data, path)
        return data

    def install(self, edition: Edition, *, changed: Collection[str], targets: Mapping[Path, bytes]) -> None:
        """Publish `edition`, in which the roles `changed` are new, with the target files that are new.

        The caller has verified the edition. Its root may be new too. Raises BadInput, before anything is written, when
        metadata have grown larger than clients accept.
        """
        encoded = {role: _encode(role, edition) for role in ROLES if role in changed}
        root = encoded.pop("root", None)
        write_together(targets.items())
        write_files({self.path_of(role, edition.metadata(role).signed.version): data for role, data in encoded.items()})
        if root is None:
            self._announce(edition)
            return
        write_root = {self.path_of("root", edition.root.signed.version): root}
        if self.exists() and self._needs_timestamp_first(edition):
            self._announce(edition)
            write_files(write_root)
        else:
            write_files(write_root)
            self._announce(edition)

    def recover(self) -> None:
        """Finish what a killed writer began; the caller holds the lock."""
        remove_unfinished(self.metadata)
        published = self.timestamp().signed.version
        for version in reversed(self.versions()["timestamp"]):
            if version <= published:
                return
            try:
                edition = self.edition(load(Timestamp, self.path_of("timestamp", version)))
                edition.verify()
            except (BadInput, NotSigned, FileNotFoundError):
                # Its root was not written yet, so this edition cannot be used. It stays, and keeps its number taken.
                continue
            self._announce(edition)
            return

    def _needs_timestamp_first(self, edition: Edition) -> bool:
        """Whether clients are better served by the new edition under the old root than the other way round.

        Two files cannot change at once. When the old edition is valid under the new root, the root goes first. Else,
        if the keys that leave have signed the new edition too, it is valid under the old root, and goes first. Else
        clients that come between the two are refused, and try again; a kill between them is repaired by `recover`.
        """
        published = self.edition()
        return not published.is_valid_under(edition.root) and edition.is_valid_under(published.root)

    def _announce(self, edition: Edition) -> None:
        rename(self.path_of("timestamp", edition.timestamp.signed.version), self._timestamp)


class PublishedTargets:
    """The targets of a role as they were published at one instant."""

    def __init__(self, targets: Mapping[str, TargetFile], files: RepositoryFiles) -> None:
        self._targets = targets
        self._files = files

    @property
    def paths(self) -> tuple[str, ...]:
        """Of all of them, sorted."""
        return tuple(sorted(self._targets))

    def read(self, path: str) -> bytes | None:
        """The content of a target; None if there is none of that path. Raises ContentMismatch."""
        target = self._targets.get(path)
        return None if target is None else self._files.read_target(target)


def _encode(role: str, edition: Edition) -> bytes:
    data = edition.metadata(role).to_bytes()
    if len(data) > MAX_METADATA_BYTES:
        problem = f"its metadata would be {len(data)} bytes, clients accept {MAX_METADATA_BYTES}"
        raise BadInput(f"role {role}", problem, "remove targets that no endpoint needs any more")
    return data


def load(kind: type[S], path: Path) -> Metadata[S]:
    """Read metadata of one kind, unverified. Raises BadInput, and FileNotFoundError."""
    return parse(kind, read_at_most(path, MAX_METADATA_BYTES), where=str(path))


def parse(kind: type[S], data: bytes, *, where: str) -> Metadata[S]:
    """Read metadata of one kind, unverified. Raises BadInput."""
    with blamed(where):
        metadata = Metadata[S].from_bytes(data)
    if not isinstance(metadata.signed, kind):
        raise BadInput(where, f"is {metadata.signed.type} metadata, expected {kind.type}")
    return metadata


def describe(path: str, data: bytes) -> TargetFile:
    """The entry of a target in metadata. Raises BadInput when it is larger than clients take."""
    if len(data) > MAX_TARGET_BYTES:
        raise BadInput(f"target {path!r}", f"is {len(data)} bytes, at most {MAX_TARGET_BYTES} are allowed")
    return TargetFile.from_data(path, data, ["sha256"])


def verify_content(target: TargetFile, data: bytes, path: Path) -> None:
    """Raise ContentMismatch unless `data`, read from `path`, is what the metadata say."""
    try:
        target.verify_length_and_hashes(data)
    except LengthOrHashMismatchError as problem:
        expected = f"{target.length} bytes, SHA-256 {target.hashes['sha256']}"
        raise ContentMismatch(str(path), expected=expected, actual=str(problem)) from None
