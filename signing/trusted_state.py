# SPDX-License-Identifier: Apache-2.0
"""What one successful refresh has made trusted: a consistent snapshot of verified metadata, read-only."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from tuf.api.metadata import Metadata, Root, Signed, Snapshot, TargetFile, Targets, Timestamp
from tuf.ngclient import Updater

from signing.errors import Expired
from signing.tuf_errors import blamed


class TrustedState:
    """A view of an updater after its refresh. Delegated roles appear as look-ups load them."""

    def __init__(self, updater: Updater, metadata_dir: Path) -> None:
        # The updater shows its verified metadata nowhere else.
        self._trusted_set = updater._trusted_set  # noqa: SLF001
        self._metadata_dir = metadata_dir

    def versions(self) -> dict[str, int]:
        """The version of every loaded role."""
        return {name: signed.version for name, signed in self._loaded()}

    def expiries(self) -> dict[str, datetime]:
        """When every loaded role expires, UTC."""
        return {name: signed.expires for name, signed in self._loaded()}

    def check_fresh(self, now: datetime) -> None:
        """Raise Expired, naming the role, when a loaded role has expired since it was verified."""
        for name, expires in self.expiries().items():
            if now >= expires:
                raise Expired(f"{name}: expired on {expires:%Y-%m-%d %H:%M} UTC")

    def is_complete(self) -> bool:
        """Every role of the snapshot is loaded, so that what `listed` lacks is listed nowhere."""
        return all(role in self._trusted_set for role in self._demanded())

    def listed(self) -> Iterator[TargetFile]:
        """Every target of the loaded roles; a path comes twice when two roles list it."""
        for _, signed in self._loaded():
            if isinstance(signed, Targets):
                yield from signed.targets.values()

    def served_metadata(self) -> dict[str, str]:
        """The file name under which a repository serves each role of this state, loaded or not; roots are left out."""
        names = {Timestamp.type: f"{Timestamp.type}.json"}
        for role, version in {Snapshot.type: self._trusted_set.snapshot.version, **self._demanded()}.items():
            names[role] = f"{version}.{role}.json" if self.is_consistent else f"{role}.json"
        return names

    def served_target(self, target: TargetFile) -> str:
        """The path, relative to the targets URL, under which a repository serves `target`."""
        return target.get_prefixed_paths()[0] if self.is_consistent else target.path

    def metadata(self, role: str) -> bytes | None:
        """The signed bytes of a loaded role, or None: a later refresh failed half way and replaced them on disk."""
        data = (self._metadata_dir / f"{quote(role, '')}.json").read_bytes()
        with blamed(role):
            version = Metadata.from_bytes(data).signed.version
        return data if version == self.versions()[role] else None

    def roots(self) -> dict[str, bytes]:
        """The signed bytes of every root of the chain since the first that was trusted here, by served file name."""
        newest = self._trusted_set.root.version
        files = (self._metadata_dir / "root_history").glob("*.root.json")
        return {file.name: file.read_bytes() for file in files if int(file.name.partition(".")[0]) <= newest}

    @property
    def is_consistent(self) -> bool:
        """Names carry a version or hash, so that a file once served under a name never changes."""
        return self._trusted_set.root.consistent_snapshot is True

    def _demanded(self) -> dict[str, int]:
        return {name.removesuffix(".json"): meta.version for name, meta in self._trusted_set.snapshot.meta.items()}

    def _loaded(self) -> Iterator[tuple[str, Signed]]:
        trusted: Mapping[str, Signed] = self._trusted_set
        for name in (Root.type, Timestamp.type, Snapshot.type, *self._demanded()):
            if name in trusted:
                yield name, trusted[name]
