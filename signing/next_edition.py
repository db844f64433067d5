# SPDX-License-Identifier: Apache-2.0
"""The edition that comes next: new metadata of some roles, with the snapshot and timestamp that announce them.

Pure: versions and `now` are arguments, signers sign. The result is verified before anybody gets to see it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

from signing.edition import Edition, add_signature, require, root_result
from signing.roles import ROLES


@dataclass(frozen=True, kw_only=True)
class OnlineSigners:
    """Who signs the snapshot and the timestamp.

    `outgoing` may hold signers of keys that a new root takes away; while they sign too, clients that know only the
    old root accept the new edition.
    """

    snapshot: Signer
    timestamp: Signer
    outgoing: Sequence[Signer] = ()


def first_edition(
    root: Metadata[Root], roles: Mapping[str, Metadata[Targets]], *, signers: OnlineSigners, now: datetime
) -> Edition:
    """The first of a repository. Raises NotSigned and KeyUnavailable."""
    snapshot = Metadata(Snapshot(version=1, expires=_end_of("snapshot", now), meta=_described(roles)))
    add_signature(snapshot, signers.snapshot)
    timestamp = Metadata(Timestamp(version=1, expires=_end_of("timestamp", now), snapshot_meta=_meta_file(snapshot)))
    add_signature(timestamp, signers.timestamp)
    edition = Edition(root=root, timestamp=timestamp, snapshot=snapshot, roles=roles)
    edition.verify()
    return edition


def next_edition(
    current: Edition,
    changed: Mapping[str, Metadata[Any]],
    *,
    signers: OnlineSigners,
    versions: Mapping[str, int],
    now: datetime,
    new_snapshot: bool = True,
) -> Edition:
    """What follows `current` when the roles in `changed` take new metadata. Raises NotSigned and KeyUnavailable.

    `versions` gives the versions of the snapshot and the timestamp. Without `new_snapshot` the snapshot stays, and no
    role may have changed.
    """
    root: Metadata[Root] = changed.get("root", current.root)
    if "root" in changed:
        require("root", root_result(current.root.signed, root))
    new_roles = {name: metadata for name, metadata in changed.items() if ROLES[name].signs_targets}
    snapshot = current.snapshot
    # What is known of files that stay is copied: written anew by another version of tuf, they might hash differently.
    snapshot_meta = current.timestamp.signed.snapshot_meta
    if new_snapshot:
        meta = {**current.snapshot.signed.meta, **_described(new_roles)}
        snapshot = Metadata(Snapshot(version=versions["snapshot"], expires=_end_of("snapshot", now), meta=meta))
        _sign(snapshot, "snapshot", signers.snapshot, signers.outgoing, current)
        snapshot_meta = _meta_file(snapshot)
    timestamp = Metadata(
        Timestamp(version=versions["timestamp"], expires=_end_of("timestamp", now), snapshot_meta=snapshot_meta)
    )
    _sign(timestamp, "timestamp", signers.timestamp, signers.outgoing, current)
    edition = Edition(root=root, timestamp=timestamp, snapshot=snapshot, roles={**current.roles, **new_roles})
    edition.verify()
    return edition


def resigned(
    role: str, metadata: Metadata[Targets], signer: Signer, *, version: int, now: datetime
) -> Metadata[Targets]:
    """The same content for another life. Raises KeyUnavailable."""
    signed = metadata.signed
    renewed = Metadata(
        Targets(
            version=version, expires=_end_of(role, now), targets=dict(signed.targets), delegations=signed.delegations
        )
    )
    add_signature(renewed, signer)
    return renewed


def _sign(metadata: Metadata[Any], role: str, signer: Signer, outgoing: Sequence[Signer], current: Edition) -> None:
    add_signature(metadata, signer)
    for leaving in outgoing:
        keyid = leaving.public_key.keyid
        if keyid in current.terms(role).keyids and keyid not in metadata.signatures:
            add_signature(metadata, leaving)


def _end_of(role: str, now: datetime) -> datetime:
    return now + ROLES[role].lifetime


def _described(roles: Mapping[str, Metadata[Targets]]) -> dict[str, MetaFile]:
    return {f"{name}.json": _meta_file(metadata) for name, metadata in roles.items()}


def _meta_file(metadata: Metadata[Any]) -> MetaFile:
    return MetaFile.from_data(metadata.signed.version, metadata.to_bytes(), ["sha256"])
