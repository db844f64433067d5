# SPDX-License-Identifier: Apache-2.0
"""Decides, whenever anything is news, what to install, what to keep for others, and what to say about the rest."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import trio

from p2pd.decisions.eligibility import Endpoint, Installed, Refusal, check_freshness, check_schedule
from p2pd.decisions.selection import Candidate, Choice, choose
from p2pd.host.latest import Latest, first_of
from p2pd.host.telemetry import log
from p2pd.ports import InstalledProduct, InstalledRelease, InstallPhase
from p2pd.ports_control import Attempt, ProductRecord, Trusted
from p2pd.services.attempt import AttemptRun, ReleaseTools
from p2pd.services.obtaining import delta_refusal, files_of, release_for, reopened, torrents_of
from p2pd.services.patience import patiently
from p2pd.services.site import Why
from p2pd.services.small_payloads import SmallRelease
from signing.reasons import Reason
from signing.report import InstallState
from signing.schedule import Offer
from signing.verified import VerifiedManifest

REST_SECONDS = 60.0  # before a release that failed for a passing reason is tried again
RECHECK_SECONDS = 60.0  # expiries pass and transient failures end without anybody saying so
PACE = 4.0  # considering thousands of offers takes a while: at most a fifth of the time goes into it

_log = log("releases")


@dataclass(frozen=True, kw_only=True)
class Platform:
    """What this machine is, and which installers are present on it."""

    system: str
    machine: str
    installers: frozenset[str]


class Releases:
    """The one service that starts attempts: at most one per product at a time."""

    def __init__(self, tools: ReleaseTools, platform: Platform) -> None:
        self._tools = tools
        self._platform = platform
        self._records: dict[str, ProductRecord] = {}
        self._products: dict[str, InstalledProduct] = {}
        self._running: dict[str, AttemptRun] = {}
        self._resting: dict[str, tuple[float, Refusal]] = {}
        self._settled = Latest(0)
        self._candidates: tuple[Trusted | None, Mapping[str, list[Candidate]]] = (None, {})
        self._seen_from_here: Endpoint | None = None  # what `_endpoint` says until something settles
        self._standing: tuple[Trusted | None, int, Refusal | None] = (None, 0, None)
        self._files: dict[str, frozenset[str]] = {}  # digests of what may lie here of a release, by manifest
        self._retained: frozenset[str] | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Resume what a crash interrupted, then install whatever becomes due, for ever.

        Ready once p2pd-install has said what is installed: nothing can be decided without that.
        """
        self._running.clear()
        self._seen_from_here = self._retained = None
        self._records = await self._tools.journal.load()
        self._products = dict(await patiently(self._tools.board, self._tools.installer.status))
        trusted, settled = self._tools.board.trusted.watch(), self._settled.watch()
        async with trio.open_nursery() as nursery:
            self._resume(nursery)
            task_status.started()
            while True:
                began = trio.current_time()
                await self._consider(nursery)
                await trio.sleep(PACE * (trio.current_time() - began))
                await first_of(trusted.changed, settled.changed, seconds=RECHECK_SECONDS)

    def installed(self) -> dict[str, InstalledProduct]:
        """What is on this endpoint, as p2pd-install said last."""
        return dict(self._products)

    def records(self) -> dict[str, ProductRecord]:
        """The newest attempt of each product, running ones included."""
        return self._records | {product: run.record for product, run in self._running.items()}

    def _resume(self, nursery: trio.Nursery) -> None:
        """Attempts that had touched the installer go on; earlier ones are judged anew (their bytes are on disk).

        One that had ended, perhaps without anybody being told, is told.
        """
        touched = (InstallState.INSTALLING, InstallState.PROBATION, InstallState.ROLLING_BACK)
        for record in self._records.values():
            attempt = record.attempt
            if attempt is not None and (attempt.state in touched or (attempt.state.is_final and not record.is_told)):
                self._resume_one(nursery, record, attempt)
        for product, entry in self._products.items():
            record = self._records.get(product, ProductRecord())
            lost = entry.pending if entry.phase is InstallPhase.PROBATION and product not in self._running else None
            if lost is not None and lost.manifest_sha256 not in record.quarantined:
                attempt = self._reconstruct(product, lost)
                self._resume_one(nursery, replace(record, attempt=attempt), attempt)

    def _resume_one(self, nursery: trio.Nursery, record: ProductRecord, attempt: Attempt) -> None:
        _log.info("resuming", product=attempt.product, version=attempt.version, state=attempt.state.value)
        run = AttemptRun(record, self._tools, still_wanted=lambda: None)
        self._running[attempt.product] = run
        nursery.start_soon(self._see_through, run, run.resume)

    def _reconstruct(self, product: str, pending: InstalledRelease) -> Attempt:
        """For a release on probation whose record was lost: prove it again, or undo it if nothing says how."""
        trusted = self._tools.board.trusted.value
        verified = trusted.manifest_of(pending.manifest_sha256) if trusted is not None else None
        if verified is not None:
            return _attempt_at(InstallState.PROBATION, product, pending, manifest=verified.data)
        attempt = _attempt_at(InstallState.ROLLING_BACK, product, pending, manifest=b"")
        return replace(attempt, reason=Reason.INSTALL_FAILED, detail="the record of its probation was lost")

    async def _consider(self, nursery: trio.Nursery) -> None:
        trusted = self._tools.board.trusted.value
        if trusted is None:
            return
        for role, expires in trusted.expiries.items():
            self._tools.metrics.metadata_expiry(role, expires.timestamp())
        self._undo_recalled(nursery, trusted)
        says: dict[str, Why] = {}
        for product, candidates in self._by_product(trusted).items():
            choice = self._choose(candidates, trusted)
            running = self._running.get(product)
            if choice.start is not None and running is None:
                self._begin(nursery, trusted, choice.start)
            for candidate in candidates:
                says[candidate.offer.manifest_sha256] = self._why(candidate.offer, choice)
        for unread in trusted.problems:
            refusal = Refusal(reason=unread.reason, detail=unread.detail)
            why = Why(product=unread.product, version=unread.version, state="not started", refusal=refusal)
            says.setdefault(unread.manifest_sha256, why)
        self._say(says)
        await self._keep_for_others(trusted)

    def _choose(self, candidates: list[Candidate], trusted: Trusted) -> Choice:
        now = trio.current_time()
        named = (candidate.offer.manifest_sha256 for candidate in candidates)
        rests = ((sha256, *self._resting[sha256]) for sha256 in named if sha256 in self._resting)
        resting = {sha256: refusal for sha256, until, refusal in rests if now < until}
        return choose(
            candidates,
            endpoint=self._endpoint(),
            policy=trusted.policy,
            recalls=trusted.recalls,
            general=self._general_refusal(trusted),
            resting=resting,
        )

    def _general_refusal(self, trusted: Trusted) -> Refusal | None:
        """What stands against installing anything new at all; looked at once a second, for all products."""
        known, unix, refusal = self._standing
        if known is trusted and unix == self._tools.clock.unix():
            return refusal
        refusal = self._judge_all(trusted)
        self._standing = trusted, self._tools.clock.unix(), refusal
        return refusal

    def _judge_all(self, trusted: Trusted) -> Refusal | None:
        now, problem = self._tools.clock.now(), trusted.general_problem
        if problem is not None:
            return Refusal(reason=problem.reason, detail=problem.detail)
        if trusted.schedule is None:
            return Refusal(reason=Reason.SCHEDULE_MISSING, detail=f"site {self._tools.identity.site!r}")
        return check_freshness(trusted.expiries, now=now) or check_schedule(
            trusted.schedule, trusted.policy, now=int(now.timestamp())
        )

    def _begin(self, nursery: trio.Nursery, trusted: Trusted, sha256: str) -> None:
        verified = trusted.manifest_of(sha256)
        if verified is None:
            return
        manifest = verified.manifest
        attempt = Attempt(
            product=manifest.product,
            version=manifest.version,
            release_counter=manifest.release_counter,
            manifest_sha256=sha256,
            manifest=verified.data,
            state=InstallState.FETCHING,
            began=self._tools.clock.unix(),
        )
        known = self._records.get(manifest.product, ProductRecord())
        before = known.attempt
        has_committed = before is not None and before.state is InstallState.COMMITTED and before.manifest
        record = ProductRecord(
            attempt=attempt,
            quarantined=known.quarantined,
            committed=before.manifest if before is not None and has_committed else known.committed,
        )
        run = AttemptRun(
            record,
            self._tools,
            still_wanted=partial(self._still_wanted, manifest.product, sha256),
            installed=partial(self._installed, manifest.product),
            no_delta=delta_refusal(before, sha256),
            manifest=verified,
        )
        self._running[manifest.product] = run
        nursery.start_soon(self._see_through, run, run.begin)

    def _still_wanted(self, product: str, sha256: str) -> Refusal | None:
        """Judge again with what is known now: a halt, a recall or a newer release ends an attempt that has not
        touched anything yet.
        """
        trusted = self._tools.board.trusted.value
        candidates = self._by_product(trusted).get(product, []) if trusted is not None else []
        if trusted is None or not candidates:
            return Refusal(reason=Reason.SUPERSEDED, detail="it is not offered any more")
        choice = self._choose(candidates, trusted)
        if choice.start == sha256:
            return None
        return choice.refusals.get(sha256, Refusal(reason=Reason.SUPERSEDED))

    def _undo_recalled(self, nursery: trio.Nursery, trusted: Trusted) -> None:
        """A release in use that was withdrawn goes back, too, whichever attempt brought it in."""
        for product, entry in self._products.items():
            active, record = entry.active, self._records.get(product, ProductRecord())
            if active is None or product in self._running or active.manifest_sha256 in record.quarantined:
                continue
            if trusted.recalls.withdraws(active.manifest_sha256):
                record = replace(record, attempt=_committed(product, active, record.attempt))
                run = AttemptRun(record, self._tools, still_wanted=lambda: None)
                self._running[product] = run
                nursery.start_soon(self._see_through, run, run.recall)

    async def _see_through(self, run: AttemptRun, steps: Callable[[], Awaitable[None]]) -> None:
        await steps()
        attempt = run.attempt
        status = partial(self._tools.installer.status, attempt.product)
        now_installed = await patiently(self._tools.board, status)
        self._products.pop(attempt.product, None)
        self._products.update(now_installed)
        self._records[attempt.product] = run.record
        self._seen_from_here = None
        del self._running[attempt.product]
        if attempt.reason is not None and attempt.state is InstallState.FAILED:
            refusal = Refusal(reason=attempt.reason, detail=attempt.detail)
            self._resting[attempt.manifest_sha256] = (trio.current_time() + REST_SECONDS, refusal)
        self._settled.set(self._settled.value + 1)

    async def _keep_for_others(self, trusted: Trusted) -> None:
        """Carry what is offered and installed here, so that others get it from the LAN; forget all other payloads."""
        segment, small = self._tools.identity.segment, list[SmallRelease]()
        wanted: set[str] = set()
        active = {product.active.manifest_sha256 for product in self._products.values() if product.active}
        for verified in trusted.manifests:
            release = release_for(verified, segment)
            if release is None or verified.sha256 not in active:
                continue
            wanted |= files_of(verified.manifest, segment)
            if isinstance(release, SmallRelease):
                small.append(release)
            for carried in torrents_of(verified, segment):
                if await self._tools.store.has(carried.transport.content.sha256, segment):
                    self._tools.carriages.carry(carried)
        await self._tools.small.keep(small)
        wanted |= {digest for run in self._running.values() for digest in run.needed}
        for digest in self._tools.carriages.digests - wanted:
            self._tools.carriages.drop(digest)
        for digest in self._tools.small.digests - wanted:
            self._tools.small.drop(digest)
        in_use = self._tools.carriages.digests_in_use
        retained = frozenset(wanted | in_use | self._worth_keeping())
        if retained != self._retained:
            await self._tools.store.retain(retained)
            self._retained = retained

    def _worth_keeping(self) -> set[str]:
        """Payloads of the newest attempts, unless they failed for good: what was fetched once is not fetched again.

        So neither a passing failure nor a schedule that lost its offers costs the site its payloads. And those of what
        is in use, for deltas build upon them.
        """
        manifests: dict[str, bytes] = {}
        for product, record in self._records.items():
            attempt, active = record.attempt, self._active(product)
            if attempt is not None and attempt.manifest_sha256 not in record.quarantined:
                manifests[attempt.manifest_sha256] = attempt.manifest
            if active is not None and record.committed and active not in manifests:
                manifests[active] = record.committed
        self._files = {
            sha256: self._files[sha256] if sha256 in self._files else self._files_of(sha256, manifest)
            for sha256, manifest in manifests.items()
        }
        return {digest for files in self._files.values() for digest in files}

    def _active(self, product: str) -> str | None:
        installed = self._products.get(product)
        return installed.active.manifest_sha256 if installed is not None and installed.active is not None else None

    def _files_of(self, sha256: str, manifest: bytes) -> frozenset[str]:
        release = reopened(manifest)
        if release is None or release.sha256 != sha256:
            return frozenset()
        return files_of(release.manifest, self._tools.identity.segment)

    def _installed(self, product: str) -> tuple[VerifiedManifest, ...]:
        """The manifest of the release of `product` that is in use, if anything here tells it."""
        active, trusted = self._active(product), self._tools.board.trusted.value
        record = self._records.get(product, ProductRecord())
        if active is None:
            return ()
        offered = trusted.manifest_of(active) if trusted is not None else None
        remembered = (record.attempt.manifest if record.attempt is not None else b"", record.committed)
        known = [offered, *(reopened(manifest) for manifest in remembered)]
        return tuple(release for release in known if release is not None and release.sha256 == active)[:1]

    def _by_product(self, trusted: Trusted) -> Mapping[str, list[Candidate]]:
        """Offers whose manifests were verified, by product; worked out once for each view."""
        if self._candidates[0] is not trusted:
            self._candidates = trusted, _by_product(trusted)
        return self._candidates[1]

    def _endpoint(self) -> Endpoint:
        """This endpoint as rules see it; worked out once for all products."""
        if self._seen_from_here is None:
            self._seen_from_here = self._describe()
        return self._seen_from_here

    def _describe(self) -> Endpoint:
        identity = self._tools.identity
        return Endpoint(
            device=identity.device,
            segment=identity.segment,
            system=self._platform.system,
            machine=self._platform.machine,
            installers=self._platform.installers,
            installed={
                product: Installed(
                    version=entry.active.version,
                    release_counter=entry.active.release_counter,
                    manifest_sha256=entry.active.manifest_sha256,
                )
                for product, entry in self._products.items()
                if entry.active is not None
            },
            quarantined=frozenset(sha256 for record in self._records.values() for sha256 in record.quarantined),
        )

    def _why(self, offer: Offer, choice: Choice) -> Why:
        sha256 = offer.manifest_sha256
        running = self._running.get(offer.product)
        if running is not None and running.attempt.manifest_sha256 == sha256:
            return _why_of(running.attempt)
        refusal = choice.refusals.get(sha256)
        attempt = self._records.get(offer.product, ProductRecord()).attempt
        if attempt is not None and attempt.manifest_sha256 == sha256:
            return replace(_why_of(attempt), refusal=_why_of(attempt).refusal or refusal)
        state = "installed" if refusal and refusal.reason is Reason.ALREADY_INSTALLED else "not started"
        return Why(product=offer.product, version=offer.version, state=state, refusal=refusal)

    def _say(self, says: dict[str, Why]) -> None:
        before = self._tools.board.why.value
        for sha256, why in says.items():
            if why.refusal is not None and why != before.get(sha256):
                self._tools.metrics.refused(why.refusal.reason.value)
        self._tools.board.why.set(says)


def _by_product(trusted: Trusted) -> dict[str, list[Candidate]]:
    """Offers whose manifests were verified, by product."""
    products: dict[str, list[Candidate]] = defaultdict(list)
    for offer in trusted.schedule.offers if trusted.schedule is not None else ():
        verified = trusted.manifest_of(offer.manifest_sha256)
        if verified is not None:
            products[offer.product].append(Candidate(offer=offer, manifest=verified.manifest))
    return products


def _committed(product: str, active: InstalledRelease, newest: Attempt | None) -> Attempt:
    """The attempt that brought `active` in: the newest one, or, when others came after it, as much as is known."""
    is_newest = newest is not None and newest.manifest_sha256 == active.manifest_sha256
    if newest is not None and is_newest and newest.state is InstallState.COMMITTED:
        return newest
    return _attempt_at(InstallState.COMMITTED, product, active, manifest=b"")  # going back takes the digest alone


def _attempt_at(state: InstallState, product: str, release: InstalledRelease, *, manifest: bytes) -> Attempt:
    """An attempt of which only p2pd-install knows."""
    return Attempt(
        product=product,
        version=release.version,
        release_counter=release.release_counter,
        manifest_sha256=release.manifest_sha256,
        manifest=manifest,
        state=state,
        began=release.installed_at,
    )


def _why_of(attempt: Attempt) -> Why:
    refusal = Refusal(reason=attempt.reason, detail=attempt.detail) if attempt.reason is not None else None
    return Why(product=attempt.product, version=attempt.version, state=attempt.state.value, refusal=refusal)
