# SPDX-License-Identifier: Apache-2.0
"""A TUF repository in memory, for telling stories about honest and hostile ones.

Metadata objects are changed freely and become visible by `publish`, which signs them into `files`: exactly what a
static server would serve. A test that wants a lie writes it into `files` itself.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import unquote

from securesystemslib.signer import CryptoSigner, Signer
from tuf.api.exceptions import DownloadHTTPError
from tuf.api.metadata import (
    TOP_LEVEL_ROLE_NAMES,
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.ngclient import FetcherInterface

ENDLESS_CHUNK = b"\0" * 65_536


class RepositorySimulator(FetcherInterface):
    """The repository, and a fetcher that reads from it without a network."""

    metadata_url = "simulated:metadata/"
    targets_url = "simulated:targets/"

    def __init__(self, now: datetime, *, lifetime: timedelta = timedelta(days=30)) -> None:
        self.expires = (now + lifetime).replace(microsecond=0)
        self.files: dict[str, bytes] = {}
        self.endless: set[str] = set()  # paths that are answered with bytes that never end
        self.refused: dict[str, int] = {}  # paths that are answered with this HTTP status
        self.requests: list[str] = []
        self.bytes_sent = 0
        self.hashes_in_metadata = False
        self.root = Root(expires=self.expires, consistent_snapshot=True)
        self.timestamp = Timestamp(expires=self.expires)
        self.snapshot = Snapshot(expires=self.expires)
        self.targets = Targets(expires=self.expires)
        self.delegated: dict[str, Targets] = {}
        self.signers: dict[str, list[Signer]] = {}
        self._published: set[str] = set()
        for role in sorted(TOP_LEVEL_ROLE_NAMES):
            self.set_keys(role, [CryptoSigner.generate_ed25519()])
        self.publish("root", "targets", "snapshot", "timestamp")

    # What the administrators of the repository do.

    def set_keys(self, role: str, signers: Sequence[Signer], *, threshold: int = 1, sign: bool = True) -> None:
        """Give `role` exactly these keys; with `sign` it is signed by all of them from now on."""
        delegator = self.root if role in TOP_LEVEL_ROLE_NAMES else self._delegator(role)
        known = delegator.roles[role] if isinstance(delegator, Root) else self._delegations(delegator)[role]
        for keyid in list(known.keyids):
            delegator.revoke_key(keyid, role)
        for signer in signers:
            delegator.add_key(signer.public_key, role)
        known.threshold = threshold
        if sign:
            self.signers[role] = list(signers)

    def delegate(
        self, delegator: str, role: str, paths: Sequence[str], *, terminating: bool = False, keys: int = 1
    ) -> Targets:
        """Let `role` sign `paths` on behalf of `delegator`, with as many new keys, all of which must sign."""
        parent = self.signed(delegator)
        assert isinstance(parent, Targets)
        if parent.delegations is None:
            parent.delegations = Delegations({}, {})
        self._delegations(parent)[role] = DelegatedRole(role, [], keys, terminating, list(paths))
        signed = self.delegated.setdefault(role, Targets(expires=self.expires))
        self.signers.setdefault(role, [CryptoSigner.generate_ed25519() for _ in range(keys)])
        for signer in self.signers[role]:
            parent.add_key(signer.public_key, role)
        return signed

    def add_target(self, role: str, path: str, data: bytes) -> TargetFile:
        """List and store a target file; visible after the next `release` of the role."""
        signed = self.signed(role)
        assert isinstance(signed, Targets)
        target = signed.targets[path] = TargetFile.from_data(path, data, ["sha256"])
        stored = target.get_prefixed_paths()[0] if self.root.consistent_snapshot else path
        self.files[f"targets/{unquote(stored)}"] = data
        return target

    def publish(self, *roles: str, bump: bool = True) -> None:
        """Sign and serve the next version of each of `roles`, as their objects are now."""
        for role in roles:
            signed = self.signed(role)
            if bump and role in self._published:
                signed.version += 1
            self._published.add(role)
            metadata: Metadata[Any] = Metadata(signed)
            for signer in self.signers[role]:
                metadata.sign(signer, append=True)
            data = metadata.to_bytes()
            self.files[self.metadata_path(role)] = data
            hashes = ["sha256"] if self.hashes_in_metadata else None
            meta = MetaFile.from_data(signed.version, data, hashes) if hashes else MetaFile(signed.version)
            if role == "snapshot":
                self.timestamp.snapshot_meta = meta
            elif role not in {"root", "timestamp"}:
                self.snapshot.meta[f"{role}.json"] = meta

    def release(self, *roles: str) -> None:
        """Publish `roles`, and the snapshot and timestamp that make them visible."""
        self.publish(*roles, "snapshot", "timestamp")

    def metadata_path(self, role: str, version: int | None = None) -> str:
        """The path under which a version of `role`, by default the present one, is served."""
        signed = self.signed(role)
        if role == "timestamp" or (role != "root" and not self.root.consistent_snapshot):
            return f"metadata/{role}.json"
        return f"metadata/{signed.version if version is None else version}.{role}.json"

    def signed(self, role: str) -> Root | Timestamp | Snapshot | Targets:
        """The object that `publish` would sign."""
        top: dict[str, Root | Timestamp | Snapshot | Targets] = {
            "root": self.root,
            "timestamp": self.timestamp,
            "snapshot": self.snapshot,
            "targets": self.targets,
        }
        return top[role] if role in top else self.delegated[role]

    # What clients see.

    def answer(self, path: str) -> Iterator[bytes]:
        """The body that a static server would send for a quoted URL path. Raises DownloadHTTPError."""
        path = unquote(path)
        self.requests.append(path)
        if path in self.endless:
            return self._endless()
        if path in self.refused or path not in self.files:
            status = self.refused.get(path, 404)
            raise DownloadHTTPError(f"{path}: status {status}", status)
        return self._count([self.files[path]])

    def _fetch(self, url: str) -> Iterator[bytes]:
        return self.answer(url.partition(":")[2])

    def _endless(self) -> Iterator[bytes]:
        while True:
            yield from self._count([ENDLESS_CHUNK])

    def _count(self, chunks: Sequence[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self.bytes_sent += len(chunk)
            yield chunk

    def _delegator(self, role: str) -> Targets:
        for parent in (self.targets, *self.delegated.values()):
            if parent.delegations is not None and role in self._delegations(parent):
                return parent
        raise KeyError(role)

    @staticmethod
    def _delegations(parent: Targets) -> dict[str, DelegatedRole]:
        assert parent.delegations is not None
        assert parent.delegations.roles is not None
        return parent.delegations.roles
