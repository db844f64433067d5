# SPDX-License-Identifier: Apache-2.0
"""Install, commit, roll back: each a short series of durable steps, whole or undone after an interruption anywhere.

    install    record installing · copy, verify, unpack, sync · record probation · switch
    commit     record idle with the candidate committed · remove what nobody needs any more
    rollback   verify the target again (unpack it afresh if a file differs) · record rolling back · switch · record idle

Kept on disk are the active release, the one before it, and a candidate; no other. During probation these are three:
should the candidate fail, the release that comes back has its own fallback still.

On its way in each byte of the transport is hashed once, in our own copy, and each byte of the payload once, while it is
unpacked; reserving the fallback hashes that one's transport once more.

A rollback goes only to what is verified again down to the last byte, and never to a recalled release: then the
active one stays, with a reason. Installing a newer release over a recalled one is allowed, since that is the remedy.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from p2pd.host.telemetry import log
from p2pd.installer.admission import admit
from p2pd.installer.disk import Disk
from p2pd.installer.installers import InstallerFactory, PackageInstaller
from p2pd.installer.journal import Journal, Phase, ProductRecord, Release
from p2pd.installer.refusal import InstallRefused, refusing
from p2pd.installer.store import ReleaseStore
from signing.errors import SigningError
from signing.manifest import Manifest
from signing.reasons import Reason
from signing.recall import Recall
from signing.trust import VerifiedManifest

_log = log(__name__)


class Recalls(Protocol):
    """Who knows what was withdrawn."""

    def recall_of(self, manifest_sha256: str) -> Recall | None:
        """The recall of that release, or None."""


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
        recalls: Recalls,
        disk: Disk,
        unix_now: Callable[[], int],
    ) -> None:
        self._journal = journal
        self._store = store
        self._directory = directory
        self._find_installer = find_installer
        self._recalls = recalls
        self._disk = disk
        self._unix_now = unix_now

    def records(self) -> tuple[ProductRecord, ...]:
        """The record of every product that has a release."""
        records = (self._journal.read(product) for product in self._journal.products())
        return tuple(record for record in records if record is not None and record.retained)

    def slot_of(self, record: ProductRecord) -> Path | None:
        """Where the active release of `record` is unpacked."""
        return None if record.active is None else self._installer(record).path(record.active.slot)

    def recover(self) -> None:
        """Resume or undo, for every product, what an interruption left. Comes before anything else."""
        self._journal.recover()
        for product in self._journal.products():
            try:
                with refusing(Reason.INSTALL_FAILED, f"recovering {product}"):
                    self._settled(product)
            except (InstallRefused, SigningError) as problem:
                # The other products are served all the same; requests for this one meet the same error.
                _log.error("cannot recover", product=product, reason=problem.reason, problem=str(problem))

    def install(self, manifest: VerifiedManifest, transport: Path) -> Installation:
        """Bring the release into use, on probation; if it is in use already, say so."""
        wanted, product = manifest.manifest, manifest.manifest.product
        self._refuse_recalled(manifest.sha256, f"{product} {wanted.version}")
        with refusing(Reason.INSTALL_FAILED, f"installing {product} {wanted.version}"):
            record = self._settled(product) or ProductRecord(product=product, installer=wanted.installer)
            if record.active is not None and record.active.manifest_sha256 == manifest.sha256:
                return Installation(slot=self._installer(record).path(record.active.slot), previous=record.previous)
            if record.candidate is not None:
                waiting = f"{product} {record.candidate.version} is on probation"
                raise InstallRefused(Reason.BUSY, f"{waiting}; commit it or roll it back first")
            admit(record, wanted, manifest.sha256)
            self._reserve_fallback(record)
            return self._bring_in(record, manifest, transport)

    def commit(self, product: str, manifest_sha256: str) -> None:
        """The release on probation has proved itself. Again for a committed one changes nothing."""
        with refusing(Reason.INSTALL_FAILED, f"committing {product}"):
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
        """Go back from the release to the one before, and return what is in use then.

        With nothing before it, nothing is. When the release is not in use, nothing changes: there is nothing to undo.
        """
        with refusing(Reason.ROLLBACK_FAILED, f"rolling back {product}"):
            record = self._settled(product)
            if record is None or record.active is None:
                return None
            if record.active.manifest_sha256 == manifest_sha256:
                record = self._go_back(record, record.previous)
            return record.active

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

    def _reserve_fallback(self, record: ProductRecord) -> None:
        # The slot itself need not be looked at: from a verified transport it can be unpacked again at any time.
        if record.committed is not None:
            try:
                self._store.reopen(record.product, record.committed)
            except (SigningError, OSError) as problem:
                raise InstallRefused(
                    Reason.FALLBACK_MISSING,
                    f"{record.product} {record.committed.version}, to fall back to, is damaged here ({problem})",
                ) from problem

    def _bring_in(self, idle: ProductRecord, manifest: VerifiedManifest, transport: Path) -> Installation:
        wanted = manifest.manifest
        factory = self._find_installer(wanted.installer)
        installer = factory(self._directory / wanted.product, self._disk)
        candidate = Release(
            version=wanted.version,
            release_counter=wanted.release_counter,
            manifest_sha256=manifest.sha256,
            installed_at=self._unix_now(),
            slot=_fresh_slot(installer, wanted, manifest.sha256),
        )
        record = idle.installing(candidate, wanted.installer)
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
            self._switch_to(installer, idle.active)
            self._journal.write(record)  # to be undone: before that, the candidate must not go
            self._undo_install(record)
            raise
        _log.info("on probation", product=wanted.product, version=wanted.version, slot=candidate.slot)
        return Installation(slot=installer.path(candidate.slot), previous=idle.committed)

    def _undo_install(self, record: ProductRecord) -> ProductRecord:
        undone = record.undone()
        self._sweep(undone)  # first: on a full disk it makes the room that the journal needs
        self._journal.write(undone)
        return undone

    def _go_back(self, record: ProductRecord, target: Release | None) -> ProductRecord:
        """From a record with an active release to `target`, through steps that may be repeated."""
        installer = self._installer(record)
        if target is not None:
            target = self._verified_target(record, target, installer)
        rolling = record if record.phase is Phase.ROLLING_BACK else record.rolling_back(target)
        rolling = replace(rolling, committed=target)
        self._journal.write(rolling)
        installer.activate(target.slot if target is not None else None)
        back = rolling.undone()
        self._journal.write(back)
        self._sweep(back)
        _log.info("rolled back", product=record.product, version=target.version if target is not None else None)
        return back

    def _resume_rollback(self, record: ProductRecord) -> ProductRecord:
        try:
            return self._go_back(record, record.committed)
        except (InstallRefused, SigningError, OSError) as problem:
            # What was verified before the interruption no longer is. The candidate was in use, and is again.
            _log.error("rollback cannot be resumed", product=record.product, problem=str(problem))
            kept = record.on_probation()
            self._journal.write(kept)
            return kept

    def _verified_target(self, record: ProductRecord, target: Release, installer: PackageInstaller) -> Release:
        name = f"{record.product} {target.version}"
        self._refuse_recalled(target.manifest_sha256, f"{name}, to go back to,")
        try:
            payload = self._store.reopen(record.product, target)
            if installer.is_intact(payload, target.slot):
                return target
            _log.warning("slot differs from its payload and is unpacked again", slot=target.slot)
            fresh = replace(target, slot=_fresh_slot(installer, payload.manifest.manifest, target.manifest_sha256))
            installer.prepare(payload, fresh.slot)
        except SigningError as problem:
            self._sweep(record)
            raise InstallRefused(Reason.ROLLBACK_FAILED, f"{name} cannot be verified: {problem}") from problem
        except OSError:
            self._sweep(record)
            raise
        return fresh

    def _refuse_recalled(self, manifest_sha256: str, name: str) -> None:
        recall = self._recalls.recall_of(manifest_sha256)
        if recall is not None:
            raise InstallRefused(Reason.RECALLED, f"{name} was withdrawn: {recall.why}")

    def _sweep(self, record: ProductRecord) -> None:
        """Remove whatever the record does not name. Failing to is no failure of what was asked: the next one tries."""
        try:
            self._installer(record).keep_only({release.slot for release in record.retained})
            self._store.keep_only(record.product, {release.manifest_sha256 for release in record.retained})
        except OSError as problem:
            _log.warning("cannot remove what is no longer needed", product=record.product, problem=str(problem))

    def _installer(self, record: ProductRecord) -> PackageInstaller:
        return self._find_installer(record.installer)(self._directory / record.product, self._disk)


def _fresh_slot(installer: PackageInstaller, manifest: Manifest, sha256: str) -> str:
    name, number = f"{manifest.release_counter}-{sha256[:12]}", 1
    while installer.holds(name if number == 1 else f"{name}.{number}"):
        number += 1
    return name if number == 1 else f"{name}.{number}"
