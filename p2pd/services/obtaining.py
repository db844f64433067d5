# SPDX-License-Identifier: Apache-2.0
"""How one release comes to this endpoint: by which transport, and what has to be made of it before it is installed.

What is handed to p2pd-install is either the full transport as it travelled, or the payload itself, made here by a
delta. Either way p2pd-install verifies it by the signed SHA-256; a delta never reaches it.
"""

import hashlib
from collections.abc import Callable

from p2pd.decisions.eligibility import Refusal
from p2pd.decisions.transports import Holdings, Way, choose_way
from p2pd.host.telemetry import log
from p2pd.ports_control import PayloadStore
from p2pd.ports_delta import Base, Rebuild, Rebuilder, RebuildFailed
from p2pd.services.fetching import Release
from p2pd.services.metrics import AgentMetrics
from p2pd.services.site import Board, Identity
from p2pd.services.small_payloads import SmallRelease
from signing.manifest import Delta, Manifest, Transport
from signing.policy import Limits
from signing.trust import reopen_committed
from signing.verified import VerifiedManifest

_log = log("obtaining")

Installed = Callable[[], tuple[VerifiedManifest, ...]]
"""The releases of the product that p2pd-install has, as far as their manifests are known here."""


class Obtaining:
    """One release on its way in."""

    def __init__(
        self,
        manifest: VerifiedManifest,
        *,
        store: PayloadStore,
        rebuilder: Rebuilder,
        board: Board,
        identity: Identity,
        metrics: AgentMetrics,
        installed: Installed,
    ) -> None:
        self._manifest = manifest
        self._store = store
        self._rebuilder = rebuilder
        self._board = board
        self._segment = identity.segment
        self._metrics = metrics
        self._installed = installed
        self._bases: dict[str, Base] = {}
        self._unusable: dict[str, Refusal] = {}

    async def choose(self) -> Way | Refusal | None:
        """The transport to fetch now; a refusal when only policy stands in the way. Raises StorageFailed."""
        manifest, trusted = self._manifest.manifest, self._board.trusted.value
        self._bases = await self._readable_bases()
        holdings = Holdings(
            readable=frozenset(self._bases),
            installed=frozenset(release.manifest.payload.sha256 for release in self._installed()),
            unusable=self._unusable,
        )
        limits = trusted.policy.limits if trusted is not None else Limits()
        way = choose_way(manifest, self._segment, holdings=holdings, limits=limits)
        refusal = way.instead_of if isinstance(way, Way) else way
        if refusal is not None:
            self._metrics.refused(refusal.reason.value)
            _log.warning("no delta", product=manifest.product, version=manifest.version, why=refusal.detail)
        return way

    async def complete(self, transport: Transport) -> bool:
        """Make what p2pd-install takes of a transport that is on disk; False when another one has to be chosen.

        Raises PayloadStoreFull, StorageFailed.
        """
        if not isinstance(transport, Delta):
            return True
        payload, base = self._manifest.manifest.payload, self._bases[transport.base.sha256]
        await self._store.make_room(payload.sha256, payload.size + (base.content.size if base.is_compressed else 0))
        work = Rebuild(
            base=base,
            delta=self._store.directory(transport.content.sha256) / self._segment,
            delta_content=transport.content,
            result=self._store.directory(payload.sha256) / self._segment,
            payload=payload,
        )
        try:
            await self._rebuilder.rebuild(work)
        except RebuildFailed as problem:
            self._unusable[transport.content.sha256] = Refusal(reason=problem.reason, detail=str(problem))
            self._metrics.refused(problem.reason.value)
            return False
        return True

    async def _readable_bases(self) -> dict[str, Base]:
        """What the release's deltas build upon, as far as it lies on disk: a payload that a delta made here before,
        or the full transport of a release that is installed, which therefore was complete once.
        """
        found: dict[str, Base] = {}
        for delta in self._manifest.manifest.deltas:
            wanted = delta.base
            if await self._store.has(wanted.sha256, self._segment):
                path = self._store.directory(wanted.sha256) / self._segment
                found[wanted.sha256] = Base(path=path, content=wanted, is_compressed=False)
                continue
            for release in self._installed():
                carried = release.manifest.torrent_for(self._segment)
                if release.manifest.payload != wanted or carried is None:
                    continue
                digest = carried[0].content.sha256
                if await self._store.has(digest, self._segment):
                    path = self._store.directory(digest) / self._segment
                    found[wanted.sha256] = Base(path=path, content=wanted, is_compressed=True)
        return found


def handed_over(manifest: Manifest, transport_sha256: str) -> str | None:
    """Digest of the file that p2pd-install gets, if the release came by that transport; None for an unknown one."""
    for transport in manifest.all_transports:
        if transport.content.sha256 == transport_sha256:
            return manifest.payload.sha256 if isinstance(transport, Delta) else transport_sha256
    return None


def files_of(manifest: Manifest, segment: str) -> frozenset[str]:
    """Digests of all files that may lie here for a release: its transports for `segment`, and what a delta makes."""
    small = manifest.small_for(segment)
    found = {transport.content.sha256 for transport, _ in manifest.torrents_for(segment)}
    if small is not None:
        found.add(small.content.sha256)
    if manifest.deltas:
        found.add(manifest.payload.sha256)
    return frozenset(found)


def reopened(manifest: bytes) -> VerifiedManifest | None:
    """A manifest out of our own durable record; None when there is none."""
    return reopen_committed(manifest, sha256=hashlib.sha256(manifest).hexdigest()) if manifest else None


def release_for(manifest: VerifiedManifest, segment: str) -> Release | SmallRelease | None:
    """The release as an endpoint of `segment` may carry it, or None."""
    small = manifest.manifest.small_for(segment)
    if small is not None:
        return SmallRelease(manifest=manifest, transport=small)
    found = manifest.manifest.torrent_for(segment)
    if found is None:
        return None
    transport, torrent = found
    return Release(manifest=manifest, transport=transport, torrent=torrent)


def torrents_of(manifest: VerifiedManifest, segment: str) -> tuple[Release, ...]:
    """The release once for each of its transports that has a torrent for `segment`."""
    return tuple(
        Release(manifest=manifest, transport=transport, torrent=torrent)
        for transport, torrent in manifest.manifest.torrents_for(segment)
    )
