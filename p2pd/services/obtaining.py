# SPDX-License-Identifier: Apache-2.0
"""How one release comes to this endpoint: by which transport, and what has to be made of it before it is installed.

What is handed to p2pd-install is either the full transport as it travelled, or the payload itself, made here by a
delta. Either way p2pd-install verifies it by the signed SHA-256; a delta never reaches it.
"""

import hashlib
from collections.abc import Callable, Mapping
from functools import partial

from p2pd.decisions.eligibility import Refusal
from p2pd.decisions.transports import Holdings, Way, choose_way
from p2pd.host.telemetry import log
from p2pd.ports import InstallerFailure
from p2pd.ports_control import Attempt, PayloadStore
from p2pd.ports_delta import Base, Rebuild, Rebuilder, RebuildFailed
from p2pd.services.carrying import Carriage
from p2pd.services.fetching import Release
from p2pd.services.metrics import AgentMetrics
from p2pd.services.reach import Reach
from p2pd.services.site import Board, Identity
from p2pd.services.small_payloads import SmallCarriage, SmallRelease
from signing.manifest import Delta, Manifest, Transport
from signing.policy import Limits
from signing.reasons import Reason
from signing.report import InstallState
from signing.trust import reopen_committed
from signing.verified import VerifiedManifest

_log = log("obtaining")

Installed = Callable[[], tuple[VerifiedManifest, ...]]
"""The releases of the product that p2pd-install has, as far as their manifests are known here."""


class Obtaining:
    """One release on its way in. `no_delta`: why none is to be used, if something spoke against them before."""

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
        no_delta: Refusal | None = None,
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
        if no_delta is not None:
            self._unusable = {delta.content.sha256: no_delta for delta in manifest.manifest.deltas}

    async def choose(self) -> Way | Refusal | None:
        """The transport to fetch now; a refusal when only policy stands in the way. Raises StorageFailed."""
        manifest = self._manifest.manifest
        self._bases = await self._readable_bases()
        way = self._choose(self._unusable)
        refusal = way.instead_of if isinstance(way, Way) else way
        if refusal is not None:
            self._metrics.refused(refusal.reason.value)
            _log.warning("no delta", product=manifest.product, version=manifest.version, why=refusal.detail)
        return way

    def reach(self, carriage: Carriage | SmallCarriage) -> Reach | None:
        """Whether a delta that is being fetched can be had at all; None for other transports, which must be."""
        if not isinstance(carriage, Carriage) or not isinstance(carriage.release.transport, Delta):
            return None
        return Reach(carriage, self._board, otherwise=partial(self._without, carriage.release.transport))

    def give_up(self, transport: Transport, refusal: Refusal) -> None:
        """Choose that one no more."""
        self._unusable[transport.content.sha256] = refusal

    async def complete(self, transport: Transport) -> bool:
        """Make what p2pd-install takes of a transport that is on disk; False when another one has to be chosen.

        That is so for one that was given up, too. Raises PayloadStoreFull, StorageFailed.
        """
        if transport.content.sha256 in self._unusable:
            return False
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
            self.give_up(transport, Refusal(reason=problem.reason, detail=str(problem)))
            self._metrics.refused(problem.reason.value)
            return False
        return True

    def _without(self, transport: Transport) -> Way | Refusal | None:
        """What would be chosen if that one could not be had."""
        missed = Refusal(reason=Reason.DELTA_OUT_OF_REACH)
        return self._choose({**self._unusable, transport.content.sha256: missed})

    def _choose(self, unusable: Mapping[str, Refusal]) -> Way | Refusal | None:
        trusted = self._board.trusted.value
        holdings = Holdings(
            readable=frozenset(self._bases),
            installed=frozenset(release.manifest.payload.sha256 for release in self._installed()),
            unusable=unusable,
        )
        limits = trusted.policy.limits if trusted is not None else Limits()
        return choose_way(self._manifest.manifest, self._segment, holdings=holdings, limits=limits)

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


def install_refusal(problem: InstallerFailure, manifest: Manifest, attempt: Attempt) -> Refusal:
    """What p2pd-install's refusal says of the release.

    Nothing, when it does not take a payload that a delta made: one from before there were deltas takes none.
    """
    deltas = {delta.content.sha256 for delta in manifest.deltas}
    if problem.reason is not Reason.PAYLOAD_MISMATCH or attempt.transport_sha256 not in deltas:
        return Refusal(reason=problem.reason, detail=str(problem))
    detail = f"p2pd-install does not take what it made; has it been restarted since the upgrade? {problem}"
    return Refusal(reason=Reason.DELTA_FAILED, detail=detail)


def delta_refusal(before: Attempt | None, manifest_sha256: str) -> Refusal | None:
    """Why a release is not to come by delta again: `install_refusal` ended the attempt at it before this one."""
    if before is None or (before.manifest_sha256, before.state) != (manifest_sha256, InstallState.FAILED):
        return None
    return Refusal(reason=before.reason, detail=before.detail) if before.reason is Reason.DELTA_FAILED else None


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
