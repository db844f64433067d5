# SPDX-License-Identifier: Apache-2.0
"""What to go back to: held ready before anything new comes in, and verified to its last byte before it comes back.

The nearest release before the active one is restored, unless it is recalled: then the one before that, if it is still
on disk and every release since can go back so far. Nothing recalled, and nothing that fails a check, ever comes back.
"""

from dataclasses import replace
from typing import Protocol

from p2pd.host.telemetry import log
from p2pd.installer.installers import PackageInstaller
from p2pd.installer.journal import ProductRecord, Release
from p2pd.installer.refusal import InstallRefused
from p2pd.installer.slot_names import fresh_slot
from p2pd.installer.store import ReleaseStore
from signing.errors import SigningError
from signing.reasons import Reason
from signing.recall import Recall
from signing.trust import VerifiedPayload

_log = log(__name__)


class Recalls(Protocol):
    """Who knows what was withdrawn."""

    def recall_of(self, manifest_sha256: str) -> Recall | None:
        """The recall of that release, or None."""


class Fallbacks:
    """The way back from any record. Methods raise InstallRefused with a reason, and OSError as the kernel gives it."""

    def __init__(self, store: ReleaseStore, recalls: Recalls) -> None:
        self._store = store
        self._recalls = recalls

    def refuse_recalled(self, manifest_sha256: str, name: str) -> None:
        """Raise InstallRefused (recalled) if that release, `name` in words, was withdrawn."""
        recall = self._recalls.recall_of(manifest_sha256)
        if recall is not None:
            raise InstallRefused(Reason.RECALLED, f"{name} was withdrawn: {recall.why}")

    def reserve(self, record: ProductRecord) -> None:
        """Make sure that what is committed can be restored; fallback_missing if not."""
        # The slot itself need not be looked at: from a verified transport it can be unpacked again at any time.
        if record.committed is not None:
            try:
                self._store.reopen(record.product, record.committed)
            except SigningError as problem:
                raise InstallRefused(
                    Reason.FALLBACK_MISSING,
                    f"{record.product} {record.committed.version}, to fall back to, is damaged here ({problem})",
                ) from problem

    def restore(self, record: ProductRecord, installer: PackageInstaller) -> Release | None:
        """What a rollback of the active release goes to, verified and unpacked; None if there was nothing before it.

        A failure may leave a slot half unpacked, which no record names.
        """
        withdrawn: InstallRefused | None = None
        for target in record.fallbacks:
            try:
                self.refuse_recalled(target.manifest_sha256, f"{record.product} {target.version}, to go back to,")
            except InstallRefused as refusal:
                _log.warning("cannot go back to a recalled release", product=record.product, version=target.version)
                withdrawn = withdrawn or refusal
                continue
            try:
                return self._verified(record.product, target, installer)
            except InstallRefused as damage:
                raise (withdrawn or damage) from damage
        if withdrawn is not None:
            raise withdrawn
        return None

    def _verified(self, product: str, target: Release, installer: PackageInstaller) -> Release:
        try:
            payload = self._store.reopen(product, target)
            if _is_intact(installer, payload, target.slot):
                return target
            _log.warning("slot differs from its payload and is unpacked again", slot=target.slot)
            fresh = replace(target, slot=fresh_slot(installer, payload.manifest))
            installer.prepare(payload, fresh.slot)
        except SigningError as problem:
            name = f"{product} {target.version}"
            raise InstallRefused(Reason.ROLLBACK_FAILED, f"{name} cannot be verified: {problem}") from problem
        return fresh


def _is_intact(installer: PackageInstaller, payload: VerifiedPayload, slot: str) -> bool:
    try:
        return installer.is_intact(payload, slot)
    except OSError as problem:  # a file that the disk no longer gives back is a file to be unpacked again
        _log.warning("slot cannot be read", slot=slot, problem=str(problem))
        return False
