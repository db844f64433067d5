# SPDX-License-Identifier: Apache-2.0
"""Install, commit, roll back: each a short series of durable steps, whole or undone after an interruption anywhere.

    install    record installing · copy, verify, unpack, sync · record probation · switch · remove what was abandoned
    commit     record idle with the candidate committed · remove what nobody needs any more
    rollback   verify the target again (unpack it afresh if a file differs) · record rolling back · switch · record idle

Kept on disk are the active release, the one before it, and a candidate; no other. During probation these are three:
should the candidate fail, the release that comes back has its own fallback still. A candidate that is on probation, or
failed it and could not be undone, is abandoned when a newer release is installed: it stays in use, and on disk, until
the switch to the newer one, which then falls back to what was committed before both.

On its way in each byte of the transport is hashed once, in our own copy, and each byte of the payload once, while it is
unpacked; reserving the fallback hashes that one's transport once more.

A rollback that finds nothing to go back to leaves the active release where it is, with a reason. Installing a newer
release over a recalled one is allowed, since that is the remedy.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from p2pd.host.telemetry import log
from p2pd.installer.admission import admit
from p2pd.installer.disk import Disk
from p2pd.installer.fallback import Fallbacks
from p2pd.installer.installers import InstallerFactory, PackageInstaller
from p2pd.installer.journal import Journal, Phase, ProductRecord, Release
from p2pd.installer.refusal import InstallRefused, refusing
from p2pd.installer.slot_names import fresh_slot
from p2pd.installer.store import ReleaseStore
from signing.errors import SigningError
from signing.reasons import Reason
from signing.trust import VerifiedManifest

_log = log(__name__)


@dataclass(frozen=True, kw_only=True)
class Installation:
    """A release in use, and what a rollback of it restores."""

    slot: Path
    previous: Release | None


class Products:
    """All products of this endpoint. Methods may run in several threads at once, one per product at a time.

    They raise InstallRefused or SigningError, and leave what is active as it was when they do.
    """

    def __init__(
        self,
        *,
        journal: Journal,
        store: ReleaseStore,
        directory: Path,
        find_installer: Callable[[str], InstallerFactory],
        fallbacks: Fallbacks,
        disk: Disk,
        unix_now: Callable[[], int],
    ) -> None:
        self._journal = journal
        self._store = store
        self._directory = directory
        self._find_installer = find_installer
        self._fallbacks = fallbacks
        self._disk = disk
        self._unix_now = unix_now

    def records(self, product: str | None = None) -> tuple[ProductRecord, ...]:
        """The record of every product that has a release, or of `product`. A damaged one is left out, and logged."""
        records = map(self._readable, self._journal.products() if product is None else (product,))
        return tuple(record for record in records if record is not None and record.retained)

    def slot_of(self, record: ProductRecord) -> Path | None:
        """Where the active release of `record` is unpacked."""
        return None if record.active is None else self._installer(record).path(record.active.slot)

    def recover(self) -> None:
        """Resume or undo, for every product, what an interruption left. Comes before anything else."""
        self._journal.recover()
        for product in self._journal.products():
            try:
                with refusing(f"recovering {product}"):
                    self._settled(product)
            except (InstallRefused, SigningError) as problem:
                # The other products are served all the same; requests for this one meet the same error.
                _log.error("cannot recover", product=product, reason=problem.reason, problem=str(problem))

    def install(self, manifest: VerifiedManifest, transport: Path) -> Installation:
        """Bring the release into use, on probation; if it is in use already, say so."""
        wanted, product = manifest.manifest, manifest.manifest.product
        self._fallbacks.refuse_recalled(manifest.sha256, f"{product} {wanted.version}")
        with refusing(f"installing {product} {wanted.version}"):
            record = self._settled(product) or ProductRecord(product=product, installer=wanted.installer)
            if record.active is not None and record.active.manifest_sha256 == manifest.sha256:
                return Installation(slot=self._installer(record).path(record.active.slot), previous=record.previous)
            admit(record, wanted, manifest.sha256)
            self._fallbacks.reserve(record)
            return self._bring_in(record, manifest, transport)

    def commit(self, product: str, manifest_sha256: str) -> None:
        """The release on probation has proved itself. Again for a committed one changes nothing."""
        with refusing(f"committing {product}"):
            record = self._settled(product)
            if record is None or record.active is None or record.active.manifest_sha256 != manifest_sha256:
                in_use = record.active.version if record is not None and record.active is not None else "nothing"
                message = f"{product}: release {manifest_sha256[:12]} is not in use here, {in_use} is"
                raise InstallRefused(Reason.NOT_ON_PROBATION, message)
            if record.phase is Phase.PROBATION:
                record = record.with_committed_candidate()
                self._journal.write(record)
                self._sweep(record)

    def rollback(self, product: str, manifest_sha256: str) -> Release | None:
        """Go back from the release to the nearest one before that is not recalled, and return what is in use then.

        With nothing before it, nothing is. When the release is not in use, nothing changes: there is nothing to undo.
        """
        with refusing(f"rolling back {product}"):
            record = self._settled(product)
            if record is None or record.active is None:
                return None
            if record.active.manifest_sha256 == manifest_sha256:
                record = self._go_back(record)
            return record.active

    def _readable(self, product: str) -> ProductRecord | None:
        try:
            return self._journal.read(product)
        except SigningError as problem:
            _log.error("cannot read what is installed", product=product, problem=str(problem))
            return None

    def _settled(self, product: str) -> ProductRecord | None:
        """The record of `product` after resuming or undoing what was interrupted."""
        record = self._journal.read(product)
        if record is None:
            return None
        if record.phase is Phase.INSTALLING:
            _log.warning("undoing an interrupted installation", product=product)
            record = self._undo_install(record)
        elif record.phase is Phase.ROLLING_BACK:
            _log.warning("resuming an interrupted rollback", product=product)
            record = self._resume_rollback(record)
        self._switch_to(self._installer(record), record.active)
        self._sweep(record)
        return record

    def _switch_to(self, installer: PackageInstaller, release: Release | None) -> None:
        """Make sure that `release` is in use, if it is there to be used."""
        expected = release.slot if release is not None else None
        if expected is not None and not installer.holds(expected):
            _log.error("what should be in use is gone from the disk", slot=str(installer.path(expected)))
        elif installer.active() != expected:
            installer.activate(expected)

    def _bring_in(self, before: ProductRecord, manifest: VerifiedManifest, transport: Path) -> Installation:
        wanted, abandoned = manifest.manifest, before.candidate
        factory = self._find_installer(wanted.installer)
        installer = factory(self._directory / wanted.product, self._disk)
        candidate = Release(
            version=wanted.version,
            release_counter=wanted.release_counter,
            manifest_sha256=manifest.sha256,
            installed_at=self._unix_now(),
            slot=fresh_slot(installer, manifest),
            # What an abandoned candidate left behind (a converted database, say) is there for those after it as well.
            oldest_fallback=max(wanted.oldest_fallback, abandoned.oldest_fallback if abandoned is not None else 0),
        )
        record = before.installing(candidate, wanted.installer)
        self._journal.write(record)
        try:
            installer.prepare(self._store.keep(manifest, transport), candidate.slot)
        except Exception:
            self._undo_install(record)
            raise
        try:
            self._journal.write(record.on_probation())
            installer.activate(candidate.slot)
        except Exception:
            self._switch_to(installer, before.active)
            self._journal.write(record)  # to be undone: before that, the candidate must not go
            self._undo_install(record)
            raise
        if abandoned is not None:
            _log.warning("abandoned on probation", product=wanted.product, version=abandoned.version)
            self._sweep(record.on_probation())
        _log.info("on probation", product=wanted.product, version=wanted.version, slot=candidate.slot)
        return Installation(slot=installer.path(candidate.slot), previous=before.committed)

    def _undo_install(self, record: ProductRecord) -> ProductRecord:
        undone = record.undone()
        self._sweep(undone)  # first: on a full disk it makes the room that the journal needs
        self._journal.write(undone)
        return undone

    def _go_back(self, record: ProductRecord) -> ProductRecord:
        """From a record with an active release to the one before, through steps that may be repeated."""
        installer = self._installer(record)
        try:
            target = self._fallbacks.restore(record, installer)
        except (InstallRefused, OSError):
            self._sweep(record)
            raise
        rolling = record.rolling_back(target)
        self._journal.write(rolling)
        installer.activate(target.slot if target is not None else None)
        back = rolling.undone()
        self._journal.write(back)
        self._sweep(back)
        _log.info("rolled back", product=record.product, version=target.version if target is not None else None)
        return back

    def _resume_rollback(self, record: ProductRecord) -> ProductRecord:
        try:
            return self._go_back(record)
        except (InstallRefused, SigningError, OSError) as problem:
            # What was verified before the interruption no longer is. The candidate was in use, and is again.
            _log.error("rollback cannot be resumed", product=record.product, problem=str(problem))
            kept = record.on_probation()
            self._journal.write(kept)
            return kept

    def _sweep(self, record: ProductRecord) -> None:
        """Remove whatever the record does not name. Failing to is no failure of what was asked: the next one tries."""
        try:
            self._installer(record).keep_only({release.slot for release in record.retained})
            self._store.keep_only(record.product, {release.manifest_sha256 for release in record.retained})
        except OSError as problem:
            _log.warning("cannot remove what is no longer needed", product=record.product, problem=str(problem))

    def _installer(self, record: ProductRecord) -> PackageInstaller:
        return self._find_installer(record.installer)(self._directory / record.product, self._disk)
