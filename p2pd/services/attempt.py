# SPDX-License-Identifier: Apache-2.0
"""Sees one release through its states on this endpoint. Every new state is durable before it is acted upon."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial

import trio

from p2pd.decisions.eligibility import Refusal
from p2pd.decisions.install_machine import Event, quarantines, step
from p2pd.decisions.transports import Way
from p2pd.host.latest import Latest, first_of
from p2pd.host.telemetry import log
from p2pd.host.wall_clock import WallClock
from p2pd.ports import InstalledProduct, Installer, InstallerFailure, PayloadStoreFull
from p2pd.ports_control import HealthProbe, Journal, PayloadStore, ProductRecord, StorageFailed, Trust
from p2pd.ports_delta import Rebuilder
from p2pd.services.carrying import Carriage, Carriages
from p2pd.services.fetching import Release
from p2pd.services.metrics import AgentMetrics
from p2pd.services.obtaining import Installed, Obtaining, files_of, handed_over, install_refusal, release_for
from p2pd.services.patience import DISK_TROUBLE, patiently, until_stored
from p2pd.services.probation import Proof, prove
from p2pd.services.reporting import Reporter
from p2pd.services.site import Board, Identity, Why
from p2pd.services.small_payloads import SmallCarriage, SmallPayloads, SmallRelease
from signing.errors import ContentMismatch, SigningError
from signing.reasons import Reason
from signing.report import InstallState
from signing.trust import reopen_committed
from signing.verified import VerifiedManifest

MAX_QUARANTINED = 1_000  # per product; the oldest are forgotten, their counters have long been passed

_log = log("attempt")

StillWanted = Callable[[], Refusal | None]
"""Asks again whether the release may be installed; None: yes."""


@dataclass(frozen=True, kw_only=True)
class ReleaseTools:
    """Everything outside that an attempt touches."""

    carriages: Carriages
    small: SmallPayloads
    installer: Installer
    journal: Journal
    store: PayloadStore
    rebuilder: Rebuilder
    trust: Trust
    reporter: Reporter
    probe: HealthProbe
    clock: WallClock
    board: Board
    identity: Identity
    metrics: AgentMetrics


class AttemptRun:
    """One attempt, from wherever its record says that it stands to a final state."""

    def __init__(
        self,
        record: ProductRecord,
        tools: ReleaseTools,
        *,
        still_wanted: StillWanted,
        installed: Installed = lambda: (),
        no_delta: Refusal | None = None,
        manifest: VerifiedManifest | None = None,
    ) -> None:
        """`manifest` is the attempt's, if it is at hand; otherwise it is read when it is needed."""
        if record.attempt is None:
            raise ValueError("a record without an attempt has nothing to run")
        self.record = record
        self.attempt = record.attempt
        self._tools = tools
        self._still_wanted = still_wanted
        self._installed = installed
        self._no_delta = no_delta
        self._carried: list[Carriage | SmallCarriage] = []  # by this run, in order
        self._known_manifest = manifest

    async def begin(self) -> None:
        """See a new attempt through. Like `resume` and `recall` it raises nothing that the world can cause."""
        await self._keep_and_tell()
        await self._go_on()

    async def resume(self) -> None:
        """Go on from a state that was durable when the daemon died, perhaps before it was told to anybody."""
        await self._tell()
        await self._go_on()

    async def recall(self) -> None:
        """Undo a committed release that was withdrawn afterwards."""
        await self._advance(Event.RECALLED, Refusal(reason=Reason.RECALLED))
        await self._go_on()

    @property
    def needed(self) -> frozenset[str]:
        """Digests of the files that this attempt has, or may come to have, and still needs."""
        state = self.attempt.state  # one that is committed still needs them, until it is known to be in use
        is_over = (state.is_final and state is not InstallState.COMMITTED) or state is InstallState.ROLLING_BACK
        if is_over or not self.attempt.manifest:  # going back takes the digest alone
            return frozenset()
        return files_of(self._manifest.manifest, self._tools.identity.segment)

    @cached_property
    def _manifest(self) -> VerifiedManifest:
        known = self._known_manifest
        return known or reopen_committed(self.attempt.manifest, sha256=self.attempt.manifest_sha256)

    @cached_property
    def _obtaining(self) -> Obtaining:
        return Obtaining(
            self._manifest,
            store=self._tools.store,
            rebuilder=self._tools.rebuilder,
            board=self._tools.board,
            identity=self._tools.identity,
            metrics=self._tools.metrics,
            installed=self._installed,
            no_delta=self._no_delta,
        )

    async def _go_on(self) -> None:
        while not self.attempt.state.is_final:
            await self._act()

    async def _act(self) -> None:
        state = self.attempt.state
        if state is InstallState.FETCHING:
            await self._fetch()
        elif state is InstallState.STAGED:
            await self._verify()
        elif state is InstallState.VERIFIED:
            await self._reserve()
        elif state is InstallState.RESERVED:
            await self._begin_install()
        elif state is InstallState.INSTALLING:
            await self._install()
        elif state is InstallState.PROBATION:
            await self._prove()
        else:
            await self._roll_back()

    async def _fetch(self) -> None:
        """By the best transport that can be used now; leaves the state as it is when it turns out that it cannot be."""
        news = self._tools.board.trusted.watch()
        try:
            way = await self._obtaining.choose()
            if isinstance(way, Refusal):
                await self._wait_because(way)
                await news.changed()  # of the policy, perhaps
                refusal = self._still_wanted()
            else:
                release = self._release_by(way)
                transport = release.transport
                why = way.instead_of if way is not None else None
                reason, detail = (why.reason, why.detail) if why is not None else (None, "")
                sha256 = transport.content.sha256
                self.attempt = replace(self.attempt, transport_sha256=sha256, reason=reason, detail=detail)
                refusal = await self._carry(release)
                if refusal is None and await self._obtaining.complete(transport):
                    await self._advance(Event.BYTES_ON_DISK)
                    return
        except (PayloadStoreFull, StorageFailed) as problem:
            refusal = Refusal(reason=problem.reason, detail=str(problem))
        if refusal is not None:
            await self._advance(Event.GAVE_UP, refusal)

    async def _carry(self, release: Release | SmallRelease) -> Refusal | None:
        """Until all of it is on disk, or something stands against it, or it is a delta that was given up."""
        carriage = carry(self._tools, release)
        if carriage not in self._carried:
            self._carried.append(carriage)
        trusted, reach = self._tools.board.trusted.watch(), self._obtaining.reach(carriage)
        lost = reach.lost if reach is not None else trio.sleep_forever
        while not carriage.finished.is_set():
            await first_of(carriage.finished.wait, trusted.changed, lost)
            refusal = self._still_wanted()
            if refusal is not None:
                return refusal
            if reach is not None and reach.refusal is not None and not carriage.finished.is_set():
                self._obtaining.give_up(release.transport, reach.refusal)
                self._tools.carriages.drop(carriage.digest)
                return None
        return carriage.refusal

    async def _wait_because(self, refusal: Refusal) -> None:
        """Say once why nothing is fetched."""
        if (self.attempt.reason, self.attempt.detail) != (refusal.reason, refusal.detail):
            self.attempt = replace(self.attempt, reason=refusal.reason, detail=refusal.detail)
            self.record = replace(self.record, attempt=self.attempt)
            await self._keep_and_tell()

    async def _verify(self) -> None:
        digest = self._handed_over
        try:
            await self._tools.store.verify(self._manifest, digest, self._tools.identity.segment)
        except SigningError as problem:
            # Other bytes speak against the release; none that can be read speak of our disk.
            is_other = isinstance(problem, ContentMismatch)
            reason = Reason.PAYLOAD_MISMATCH if is_other else Reason.PAYLOAD_MISSING
            self._tools.carriages.drop(digest)
            self._tools.small.drop(digest)
            await self._tools.store.discard(digest)
            await self._advance(Event.GAVE_UP, Refusal(reason=reason, detail=str(problem)))
            return
        await self._forget_unfinished()
        await self._advance(Event.DIGEST_MATCHED)

    async def _forget_unfinished(self) -> None:
        """What began to come by another transport: whatever lies here of a release that is installed is complete."""
        ended = (carriage for carriage in self._carried if carriage.finished.is_set())
        finished = {carriage.digest for carriage in ended if carriage.refusal is None}
        for digest in self.needed - finished - {self._handed_over, self.attempt.transport_sha256}:
            self._tools.carriages.drop(digest)
            await until_stored(partial(self._tools.store.discard, digest))

    async def _reserve(self) -> None:
        """The fallback must be on disk before anything is touched; p2pd-install checks its bytes again itself."""
        product = await self._product()
        active = product.active if product is not None else None
        if active is not None and active.release_counter < self._manifest.manifest.oldest_fallback:
            await self._advance(Event.GAVE_UP, Refusal(reason=Reason.FALLBACK_FORBIDDEN, detail=active.version))
            return
        previous = active.version if active is not None else None
        await self._advance(Event.FALLBACK_HELD, previous_version=previous)

    async def _begin_install(self) -> None:
        refusal = self._still_wanted()
        if refusal is not None:
            await self._advance(Event.GAVE_UP, refusal)
        else:
            await self._advance(Event.INSTALL_BEGUN)

    async def _install(self) -> None:
        manifest, tools = self._manifest.manifest, self._tools
        product = await self._product()
        if product is not None and product.active and product.active.manifest_sha256 == self._manifest.sha256:
            await self._advance(Event.INSTALLED)  # done before the daemon died; a refusal now would leave it unwatched
            return
        install = partial(
            tools.installer.install,
            product=manifest.product,
            version=manifest.version,
            mirror=tools.trust.mirror,
            transport=tools.store.directory(self._handed_over) / tools.identity.segment,
        )
        began = trio.current_time()
        try:
            await patiently(tools.board, install)
        except InstallerFailure as problem:
            await self._advance(Event.GAVE_UP, install_refusal(problem, self._manifest.manifest, self.attempt))
            return
        tools.metrics.install_seconds.observe(trio.current_time() - began)
        await self._advance(Event.INSTALLED)

    async def _prove(self) -> None:
        product = await self._product()
        if product is None or product.slot is None:
            await self._advance(Event.PROVED_UNHEALTHY, Refusal(reason=Reason.INSTALL_FAILED, detail="no active slot"))
            return
        slot, proof = product.slot, Latest[Proof | None](None)

        async def watch_health() -> None:
            proof.set(await prove(self._manifest.manifest.health, self._tools.probe, slot=slot))

        await first_of(watch_health, self._recalled)
        if proof.value is None:
            await self._advance(Event.RECALLED, Refusal(reason=Reason.RECALLED))
        elif proof.value.healthy:
            await self._commit()
        else:
            refusal = Refusal(reason=Reason.HEALTH_CHECK_FAILED, detail=proof.value.detail)
            await self._advance(Event.PROVED_UNHEALTHY, refusal)

    async def _commit(self) -> None:
        """The installer commits first: a crash in between only repeats probation."""
        attempt = self.attempt
        commit = partial(self._tools.installer.commit, product=attempt.product, manifest_sha256=attempt.manifest_sha256)
        try:
            await patiently(self._tools.board, commit, passing=DISK_TROUBLE)
        except InstallerFailure as problem:
            await self._advance(Event.PROVED_UNHEALTHY, Refusal(reason=problem.reason, detail=str(problem)))
            return
        await self._advance(Event.PROVED_HEALTHY)

    async def _roll_back(self) -> None:
        attempt = self.attempt
        why = Refusal(reason=attempt.reason or Reason.HEALTH_CHECK_FAILED, detail=attempt.detail)
        roll_back = partial(
            self._tools.installer.rollback,
            product=attempt.product,
            manifest_sha256=attempt.manifest_sha256,
            mirror=self._tools.trust.mirror,
        )
        try:
            await patiently(self._tools.board, roll_back, passing=DISK_TROUBLE)
        except InstallerFailure as problem:
            await self._advance(Event.RESTORE_FAILED, Refusal(reason=problem.reason, detail=str(problem)))
            return
        await self._advance(Event.RESTORED, why)

    async def _recalled(self) -> None:
        trusted = self._tools.board.trusted.watch()
        while True:
            known = self._tools.board.trusted.value
            if known is not None and known.recalls.withdraws(self.attempt.manifest_sha256):
                return
            await trusted.changed()

    async def _product(self) -> InstalledProduct | None:
        status = partial(self._tools.installer.status, self.attempt.product)
        return (await patiently(self._tools.board, status)).get(self.attempt.product)

    def _release_by(self, way: Way | None) -> Release | SmallRelease:
        if way is None:
            return self._wanted_release()
        return Release(manifest=self._manifest, transport=way.transport, torrent=way.torrent)

    @property
    def _handed_over(self) -> str:
        """Digest of the file that p2pd-install gets."""
        found = handed_over(self._manifest.manifest, self.attempt.transport_sha256)
        return found or self._wanted_release().transport.content.sha256  # an attempt from before there were deltas

    def _wanted_release(self) -> Release | SmallRelease:
        release = release_for(self._manifest, self._tools.identity.segment)
        if release is None:
            raise ValueError("the manifest is not for this segment, eligibility should have said so")
        return release

    async def _advance(
        self, event: Event, refusal: Refusal | None = None, *, previous_version: str | None = None
    ) -> None:
        state = step(self.attempt.state, event)
        if self.attempt.state is InstallState.FETCHING:
            self._count_received()
        self.attempt = replace(
            self.attempt,
            state=state,
            reason=refusal.reason if refusal else None,
            detail=refusal.detail if refusal else "",
            previous_version=previous_version or self.attempt.previous_version,
            seconds=max(0.0, float(self._tools.clock.unix() - self.attempt.began)),
        )
        quarantined = self.record.quarantined
        if quarantines(state, self.attempt.reason) and self.attempt.manifest_sha256 not in quarantined:
            quarantined = (*quarantined, self.attempt.manifest_sha256)[-MAX_QUARANTINED:]
        self.record = replace(self.record, attempt=self.attempt, quarantined=quarantined, is_told=False)
        await self._keep_and_tell()

    async def _keep_and_tell(self) -> None:
        await until_stored(partial(self._tools.journal.save, self.attempt.product, self.record))
        await self._tell()

    async def _tell(self) -> None:
        """Report, count and show the state that is now durable."""
        attempt, tools = self.attempt, self._tools
        await until_stored(partial(tools.reporter.report, attempt))
        if attempt.state.is_final:  # nothing comes after it that would tell how it ended, should this have been lost
            self.record = replace(self.record, is_told=True)
            await until_stored(partial(tools.journal.save, attempt.product, self.record))
        tools.metrics.release_state(attempt.product, attempt.state)
        refusal = Refusal(reason=attempt.reason, detail=attempt.detail) if attempt.reason else None
        if refusal is not None:
            tools.metrics.refused(refusal.reason.value)
        why = Why(product=attempt.product, version=attempt.version, state=attempt.state.value, refusal=refusal)
        tools.board.why.put(attempt.manifest_sha256, why)
        _log.info(
            "release state",
            product=attempt.product,
            version=attempt.version,
            state=attempt.state.value,
            reason=attempt.reason,
            detail=attempt.detail,
        )

    def _count_received(self) -> None:
        got = [carriage.received for carriage in self._carried]
        self.attempt = replace(
            self.attempt,
            bytes_lan=sum(received.lan for received in got),
            bytes_origin=sum(received.origin for received in got),
            bytes_web=sum(received.web for received in got),
            measured=got[-1].measured if got else None,
        )


def carry(tools: ReleaseTools, release: Release | SmallRelease) -> Carriage | SmallCarriage:
    """Begin to carry a release, or go on, the way that its transport travels."""
    return tools.small.carry(release) if isinstance(release, SmallRelease) else tools.carriages.carry(release)
