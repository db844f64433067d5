# SPDX-License-Identifier: Apache-2.0
"""One release from what an administrator has: payload, a torrent for every segment, and the manifest around them.

A small payload needs no torrents, but for agents that do not know that yet.

Synchronous and busy for seconds to minutes: call it in a worker thread, or from a command.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from seeds.adapters.payload_builder import BuiltPayload, build_payload
from seeds.adapters.torrent_maker import make_torrent
from seeds.services.publishing import BuiltPatch
from signing.errors import BadInput
from signing.manifest import (
    SMALL_BYTES,
    Applicability,
    Content,
    HealthPlan,
    Manifest,
    Requirement,
    SegmentTorrent,
    Severity,
    Transport,
    torrent_target,
)

Progress = Callable[[str, int, int], None]
"""Told the stage's name, what is done and what there is to do."""


@dataclass(frozen=True, kw_only=True)
class PatchWish:
    """What the administrator says about a release."""

    product: str
    version: str
    release_counter: int
    severity: Severity = Severity.MODERATE
    cves: tuple[str, ...] = ()
    summary: str = ""
    applicability: Applicability = Applicability()
    depends: tuple[Requirement, ...] = ()
    conflicts: tuple[str, ...] = ()
    health: HealthPlan = HealthPlan()
    oldest_fallback: int = 0


def build_patch(
    wish: PatchWish,
    source: Path,
    *,
    into: Path,
    segment_authorities: Mapping[str, bytes],
    always_torrents: bool = False,
    progress: Progress = lambda _stage, _done, _total: None,
) -> tuple[BuiltPatch, BuiltPayload]:
    """Build everything that the `patches` role signs; the transport is left in the directory `into`.

    `segment_authorities` are the segments' certificates in PEM. `always_torrents` gives them to a small payload, too.
    Raises BadInput.
    """
    _check_wish(wish)
    payload = build_payload(source, into, progress=lambda done, total: progress("payload", done, total))
    if payload.transport.size <= SMALL_BYTES and not always_torrents:
        transport = Transport(
            codec="zstd", content=payload.transport, torrents=(), segments=tuple(sorted(segment_authorities))
        )
        manifest = _manifest(wish, payload.payload, transport, payload.suggested.summary)
        return BuiltPatch(manifest=manifest, torrents={}, transports=(payload.transport_path,)), payload
    torrents: dict[str, bytes] = {}
    carried = []
    for segment, certificate in sorted(segment_authorities.items()):
        made = make_torrent(
            payload.transport_path,
            name=segment,
            segment_ca_pem=certificate,
            on_progress=partial(progress, f"torrent for {segment}"),
        )
        target = torrent_target(wish.product, wish.version, segment)
        torrents[target] = made.torrent
        carried.append(SegmentTorrent(segment=segment, info_hash=made.info_hash, target=target))
    transport = Transport(codec="zstd", content=payload.transport, torrents=tuple(carried))
    manifest = _manifest(wish, payload.payload, transport, payload.suggested.summary)
    return BuiltPatch(manifest=manifest, torrents=torrents, transports=(payload.transport_path,)), payload


def _manifest(wish: PatchWish, payload: Content, transport: Transport, summary: str | None) -> Manifest:
    return Manifest(
        product=wish.product,
        version=wish.version,
        release_counter=wish.release_counter,
        payload=payload,
        transports=(transport,),
        severity=wish.severity,
        cves=wish.cves,
        summary=wish.summary or summary or "",
        applicability=wish.applicability,
        depends=wish.depends,
        conflicts=wish.conflicts,
        health=wish.health,
        oldest_fallback=wish.oldest_fallback,
    )


def _check_wish(wish: PatchWish) -> None:
    """Refuse a name or number that no manifest may carry before minutes are spent on the payload."""
    any_content = Content(sha256="0" * 64, size=1)
    any_torrent = SegmentTorrent(segment="any", info_hash="0" * 64, target="any")
    try:
        _manifest(wish, any_content, Transport(codec="zstd", content=any_content, torrents=(any_torrent,)), None)
    except ValueError as problem:
        raise BadInput(f"patch {wish.product} {wish.version}", str(problem)) from None
