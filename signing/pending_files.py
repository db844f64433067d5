# SPDX-License-Identifier: Apache-2.0
"""Metadata that wait for signatures, with the target files that they bring: `pending/`, which no client reads.

    pending/patches.json  pending/targets/patches/tzdata/2025.2/<sha256>.manifest

The metadata file is written last and removed first, so whenever it is there, so are its target files.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from tuf.api.metadata import Metadata, Root, TargetFile, Targets

from signing.durable_file import read_at_most
from signing.errors import BadInput
from signing.file_tree import (
    files_below,
    remove_empty_directories,
    remove_files,
    remove_unfinished,
    rename,
    write_files,
    write_together,
)
from signing.repository_files import MAX_TARGET_BYTES, load, verify_content
from signing.roles import ROLES


class PendingFiles:
    """At most one pending version of each role below `directory`. Writers hold the repository's lock."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._targets = directory / "targets"

    def path_of(self, role: str) -> Path:
        """Where the pending metadata of a role lie."""
        return self._directory / f"{role}.json"

    def roles(self) -> tuple[str, ...]:
        """Roles of which a version is pending."""
        return tuple(role for role in ROLES if self.path_of(role).exists())

    def find(self, role: str) -> Metadata[Any] | None:
        """The pending version of `role` (a Root, or Targets), if there is one."""
        path = self.path_of(role)
        return _load(role, path) if path.exists() else None

    def metadata(self, role: str) -> Metadata[Any]:
        """The pending version of `role`. Raises BadInput when there is none."""
        found = self.find(role)
        if found is None:
            raise BadInput(str(self.path_of(role)), f"no version of {role} is pending", "stage one first")
        return found

    def save(self, role: str, metadata: Metadata[Any], targets: Mapping[str, bytes] | None = None) -> None:
        """Keep `metadata` as the pending version of `role`, with those of its targets that are not published yet."""
        files = {self._target_file(metadata.signed.targets[path]): data for path, data in (targets or {}).items()}
        write_together(files.items())
        write_files({self.path_of(role): metadata.to_bytes()})

    def read_target(self, target: TargetFile) -> bytes | None:
        """The content that a pending target brings; None if it brings none. Raises ContentMismatch."""
        path = self._target_file(target)
        if not path.exists():
            return None
        data = read_at_most(path, MAX_TARGET_BYTES)
        verify_content(target, data, path)
        return data

    def discard(self, role: str) -> None:
        """Take the pending version back, but remember its version number if anybody has signed it."""
        metadata = self.metadata(role)
        if metadata.signatures:
            rename(self.path_of(role), self._discarded(role))
        self.remove([role])

    def remove(self, roles: Collection[str]) -> None:
        """Forget pending versions, and the target files that nothing pending needs any more."""
        remove_files([self.path_of(role) for role in roles])
        try:
            pending = [self.metadata(role) for role in self.roles() if role != "root"]
        except BadInput:
            return  # somebody's edit broke a pending role, which says so when it is used; its files stay
        needed = {self._target_file(target) for metadata in pending for target in metadata.signed.targets.values()}
        remove_files(files_below(self._targets) - needed)
        remove_empty_directories(self._targets)

    def least_version(self, role: str) -> int:
        """The lowest version that the next pending one may have, so that no number is signed for two contents."""
        pending = self.find(role)
        if pending is not None:
            version: int = pending.signed.version
            return version + 1 if pending.signatures else version
        discarded = self._discarded(role)
        return _load(role, discarded).signed.version + 1 if discarded.exists() else 1

    def drop_stale(self, published: Mapping[str, int]) -> None:
        """Forget half-written files, and what a killed writer published but did not remove from here."""
        remove_unfinished(self._directory)
        stale = [role for role in self.roles() if _is_stale(role, self.path_of(role), published[role])]
        if stale:
            self.remove(stale)
        remove_files([path for role in ROLES if _is_stale(role, path := self._discarded(role), published[role])])

    def _discarded(self, role: str) -> Path:
        return self._directory / f"{role}.discarded"

    def _target_file(self, target: TargetFile) -> Path:
        (name,) = target.get_prefixed_paths()
        return self._targets / name


def _load(role: str, path: Path) -> Metadata[Any]:
    return load(Root, path) if role == "root" else load(Targets, path)


def _is_stale(role: str, path: Path, published: int) -> bool:
    try:
        version: int = _load(role, path).signed.version
    except (FileNotFoundError, BadInput):
        return False
    return version <= published
