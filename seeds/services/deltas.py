# SPDX-License-Identifier: Apache-2.0
"""Deltas for a release that has been built: from which earlier releases, and what each of them is worth.

Synchronous and busy for seconds to minutes. A base that cannot be used costs the release nothing but that delta: the
outcome says why. Nothing here depends on the clock, so the same releases give the same deltas.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from seeds.adapters.delta_maker import NoDelta, check_sizes, make_delta, unpack
from seeds.adapters.torrent_maker import make_torrent
from seeds.services.publishing import BuiltPatch
from signing.errors import BadInput, SigningError
from signing.manifest import MAX_DELTAS, SMALL_BYTES, Content, Delta, Manifest, SegmentTorrent, torrent_target

LARGEST_SHARE = 0.5  # of the full transport: a larger delta is not worth its torrents and its place in the manifest

Progress = Callable[[str, int, int], None]
"""Told the stage's name, what is done and what there is to do."""


@dataclass(frozen=True, kw_only=True)
class DeltaOutcome:
    """What became of one base: the delta's `size` in bytes, or None and the reason."""

    base: str  # version
    size: int | None
    full_size: int
    reason: str = ""


def choose_bases(published: Sequence[Manifest], product: str, named: Sequence[str], *, newest: int) -> list[Manifest]:
    """The releases to build deltas from: those `named` as PRODUCT@VERSION, or the `newest` ones of the product.

    `published` are the releases that are not withdrawn. Raises BadInput.
    """
    known = sorted((m for m in published if m.product == product), key=lambda m: m.release_counter, reverse=True)
    if not named:
        return known[:newest]
    if len(named) > MAX_DELTAS:
        raise BadInput("--base", f"{len(named)} bases are named, a release has at most {MAX_DELTAS} deltas")
    found = []
    for text in dict.fromkeys(named):
        base_product, _, version = text.partition("@")
        if base_product != product or not version:
            raise BadInput("--base", f"{text!r} is no release of {product}", f"write {product}@VERSION")
        release = next((m for m in known if m.version == version), None)
        if release is None:
            raise BadInput("--base", f"{text} is not published, or was withdrawn", "see `p2pctl patch list`")
        found.append(release)
    return found


def add_deltas(
    built: BuiltPatch,
    bases: Sequence[Manifest],
    *,
    find_transport: Callable[[Content], Path | None],
    into: Path,
    segment_authorities: Mapping[str, bytes],
    progress: Progress = lambda _stage, _done, _total: None,
) -> tuple[BuiltPatch, tuple[DeltaOutcome, ...]]:
    """The release with a delta from each of `bases` that is worth it; their files are left in the directory `into`.

    `find_transport` says where an earlier transport lies, if it still does. Raises BadInput when `into` is no use.
    """
    manifest, outcomes = built.manifest, []
    full_size = manifest.transports[0].content.size
    new = into / ".new-payload"
    try:
        if bases and full_size > SMALL_BYTES:
            unpack(built.transports[0], manifest.payload, new)
        for base in bases:
            try:
                _check_worth(base, built.manifest)
                tell = partial(progress, f"delta from {base.version}")
                delta = _delta(base, new, find_transport, into, int(full_size * LARGEST_SHARE), tell)
            except (NoDelta, SigningError) as problem:
                outcomes.append(DeltaOutcome(base=base.version, size=None, full_size=full_size, reason=str(problem)))
                continue
            built = _with_delta(built, base.payload, delta, into / delta.sha256, segment_authorities)
            outcomes.append(DeltaOutcome(base=base.version, size=delta.size, full_size=full_size))
    finally:
        new.unlink(missing_ok=True)
    return built, tuple(outcomes)


def _check_worth(base: Manifest, manifest: Manifest) -> None:
    full_size = manifest.transports[0].content.size
    if full_size <= SMALL_BYTES:
        raise NoDelta(f"the full transport has {full_size} bytes, which is one request anyway")
    if base.payload == manifest.payload:
        raise NoDelta("it has the same payload")
    if any(delta.base == base.payload for delta in manifest.deltas):
        raise NoDelta("it has the same payload as another base")
    check_sizes(base.payload, manifest.payload)


def _delta(
    base: Manifest,
    new: Path,
    find_transport: Callable[[Content], Path | None],
    into: Path,
    most_bytes: int,
    progress: Callable[[int, int], None],
) -> Content:
    transport = find_transport(base.transports[0].content)
    if transport is None:
        raise NoDelta(f"its transport {base.transports[0].content.sha256[:12]} is not on the shelf any more")
    old = into / ".base-payload"
    try:
        unpack(transport, base.payload, old)
        return make_delta(old, new, into, most_bytes=most_bytes, progress=progress)
    finally:
        old.unlink(missing_ok=True)


def _with_delta(
    built: BuiltPatch, base: Content, content: Content, path: Path, segment_authorities: Mapping[str, bytes]
) -> BuiltPatch:
    manifest, torrents, carried = built.manifest, dict(built.torrents), []
    for segment, certificate in sorted(segment_authorities.items()):
        made = make_torrent(path, name=segment, segment_ca_pem=certificate)
        target = torrent_target(manifest.product, manifest.version, segment, base_sha256=base.sha256)
        torrents[target] = made.torrent
        carried.append(SegmentTorrent(segment=segment, info_hash=made.info_hash, target=target))
    delta = Delta(codec="hdiffpatch", content=content, torrents=tuple(carried), base=base)
    return BuiltPatch(
        manifest=replace(manifest, deltas=(*manifest.deltas, delta)),
        torrents=torrents,
        transports=(*built.transports, path),
    )
