# SPDX-License-Identifier: Apache-2.0
"""Releases, recalls and policies on their way out: staged for signatures, then published. Synchronous, for `p2pctl`.

The transport files are in place, hashed again, before any metadata names them: whoever reads a manifest can fetch
what it promises.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from securesystemslib.signer import Signer

from seeds.adapters.control_question import ask
from seeds.adapters.payload_shelf import PayloadShelf
from signing.codec import decode, encode
from signing.errors import BadInput, NotSigned
from signing.manifest import Manifest, manifest_target
from signing.policy import POLICY_TARGET, Policy
from signing.recall import RECALL_TARGET, Recall, RecallList
from signing.repository import Repository
from signing.schedule import MAX_OFFERS

MAX_PRODUCTS = MAX_OFFERS // 3  # a schedule offers up to three releases of each
POKE_SECONDS = 35.0  # the coordinator answers within 30


@dataclass(frozen=True, kw_only=True)
class BuiltPatch:
    """A release that is ready to be signed. `torrents` are by target path, `transports` are the manifest's, in order:
    those that stand alone, then the deltas.
    """

    manifest: Manifest
    torrents: Mapping[str, bytes]
    transports: Sequence[Path]


def stage_patch(repository: Repository, shelf: PayloadShelf, built: BuiltPatch, *, now: datetime) -> None:
    """Add a release to what waits for the `patches` role's signatures. Raises BadInput or ContentMismatch.

    Other releases that wait already stay, but whoever signed them has to sign again.
    """
    stage_patches(repository, shelf, [built], now=now)


def stage_patches(repository: Repository, shelf: PayloadShelf, built: Sequence[BuiltPatch], *, now: datetime) -> None:
    """Add releases, of any number of products, in one step: what is known already is read once for all of them.

    Raises as `stage_patch` does, and stages none of them then.
    """
    for patch in built:
        _check_complete(patch)
    with repository.lock():
        put = dict(_pending_patches(repository))
        known = _by_product([*_published(repository), *_manifests(put)])
        for patch in built:
            _check_new(patch.manifest, known)
            known[patch.manifest.product].append(patch.manifest)
            put |= {**patch.torrents, patch.manifest.target: encode(patch.manifest)}
        for patch in built:
            for transport, path in zip(patch.manifest.all_transports, patch.transports, strict=True):
                shelf.stage(path, transport.content)
        repository.stage("patches", put, now=now)


def publish(
    repository: Repository,
    shelf: PayloadShelf,
    roles: Iterable[str],
    *,
    snapshot: Signer,
    timestamp: Signer,
    now: datetime,
) -> tuple[Manifest, ...]:
    """Publish what is pending of `roles`; the releases that are new by that. Raises NotSigned, BadInput or worse.

    Nothing changes unless every role has the signatures that it needs.
    """
    roles = tuple(roles)
    with repository.lock():
        _check_signed(repository, roles)
        released = _manifests(_pending_patches(repository)) if "patches" in roles else []
        contents = [transport.content for manifest in released for transport in manifest.all_transports]
        shelf.serve(*contents)
        repository.publish(roles, snapshot=snapshot, timestamp=timestamp, now=now)
        for content in contents:
            shelf.unstage(content)
    return tuple(released)


def next_counter(repository: Repository, product: str) -> int:
    """One more than the highest release counter of `product`, published or waiting for signatures."""
    known = [*_published(repository), *_manifests(_pending_patches(repository))]
    return 1 + max((manifest.release_counter for manifest in known if manifest.product == product), default=0)


def stage_recall(repository: Repository, product: str, version: str, why: str, *, now: datetime) -> Recall:
    """Add the withdrawal of a published release to what waits for the `recalls` role's signature. Raises BadInput."""
    where = f"{product} {version}"
    with repository.lock():
        manifest = repository.read_target("patches", manifest_target(product, version))
        if manifest is None:
            raise BadInput(where, "is not published", "see `p2pctl patch list`")
        known = _newest(repository, "recalls", RECALL_TARGET)
        recalls = RecallList(version=1) if known is None else decode(RecallList, known, where=RECALL_TARGET)
        digest = sha256(manifest).hexdigest()
        if recalls.withdraws(digest):
            raise BadInput(where, "is withdrawn already")
        try:
            recall = Recall(product=product, version=version, manifest_sha256=digest, why=why)
        except ValueError as problem:
            raise BadInput(where, str(problem)) from None
        longer = replace(recalls, version=recalls.version + 1, recalls=(*recalls.recalls, recall))
        repository.stage("recalls", {RECALL_TARGET: encode(longer)}, now=now)
    return recall


def stage_policy(repository: Repository, policy: Policy, *, now: datetime) -> None:
    """Make `policy` wait for the `policies` role's signature. Raises BadInput unless its version is new."""
    with repository.lock():
        published = repository.read_target("policies", POLICY_TARGET)
        version = decode(Policy, published, where=POLICY_TARGET).version if published else 0
        if policy.version <= version:
            raise BadInput("policy", f"version {policy.version} is not newer", f"{version} is published: count up")
        repository.stage("policies", {POLICY_TARGET: encode(policy)}, now=now)


def poke_coordinator(control_socket: Path) -> int | None:
    """Tell a running coordinator that there is news; the timestamp version that it then serves.

    None when none runs, or it cannot look now: it finds the news by itself when it next does.
    """
    answer = ask(control_socket, "recompute", timeout_seconds=POKE_SECONDS)
    version = answer.get("timestamp_version") if answer is not None else None
    return version if isinstance(version, int) else None


def _check_complete(built: BuiltPatch) -> None:
    manifest = built.manifest
    where = f"{manifest.product} {manifest.version}"
    named = {torrent.target for transport in manifest.all_transports for torrent in transport.torrents}
    if named != set(built.torrents):
        raise BadInput(where, "its manifest names other torrents than were made", "build it again")
    if len(built.transports) != len(manifest.all_transports):
        raise BadInput(where, "its manifest names other transports than were made", "build it again")


def _by_product(manifests: Iterable[Manifest]) -> defaultdict[str, list[Manifest]]:
    products: defaultdict[str, list[Manifest]] = defaultdict(list)
    for manifest in manifests:
        products[manifest.product].append(manifest)
    return products


def _check_new(manifest: Manifest, known: Mapping[str, Sequence[Manifest]]) -> None:
    where = f"{manifest.product} {manifest.version}"
    same = known.get(manifest.product, ())
    if any(other.version == manifest.version for other in same):
        raise BadInput(where, "exists already", "a release never changes: choose another version")
    newest = max((other.release_counter for other in same), default=0)
    if manifest.release_counter <= newest:
        raise BadInput(where, f"its release counter {manifest.release_counter} is not new", f"use {newest + 1}")
    if len(known.keys() | {manifest.product}) > MAX_PRODUCTS:
        raise BadInput(where, f"the fleet has {MAX_PRODUCTS} products already", "schedules have no room for more")


def _check_signed(repository: Repository, roles: Sequence[str]) -> None:
    counts = {pending.role: pending.signatures for pending in repository.pending()}
    for role in roles:
        if role in counts and not counts[role].is_enough:
            have, need = counts[role]
            raise NotSigned(f"{role}: {have} of {need} signatures; have it signed with `p2pctl patch sign`")


def _published(repository: Repository) -> list[Manifest]:
    paths = [path for path in repository.target_paths("patches") if path.endswith("/manifest")]
    found = {path: repository.read_target("patches", path) for path in paths}
    return _manifests({path: data for path, data in found.items() if data is not None})


def _pending_patches(repository: Repository) -> dict[str, bytes]:
    waiting = next((version for version in repository.pending() if version.role == "patches"), None)
    return repository.read_pending_each("patches", waiting.put) if waiting else {}


def _newest(repository: Repository, role: str, path: str) -> bytes | None:
    if any(version.role == role for version in repository.pending()):
        return repository.read_pending(role, path)
    return repository.read_target(role, path)


def _manifests(targets: Mapping[str, bytes]) -> list[Manifest]:
    return [decode(Manifest, data, where=path) for path, data in targets.items() if path.endswith("/manifest")]
