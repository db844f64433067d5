# SPDX-License-Identifier: Apache-2.0
"""p2pd-install without a disk: the same records and rules, on whatever clock trio has."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio

from p2pd.installer.admission import admit
from p2pd.installer.journal import Phase, ProductRecord, Release
from p2pd.installer.refusal import InstallRefused
from p2pd.installer.turns import Turns
from p2pd.ports import Installation, InstalledProduct, InstalledRelease, InstallerFailure, InstallPhase
from signing.manifest import Manifest
from signing.reasons import Reason, explain

T = TypeVar("T")


class FakeInstaller:
    """An `Installer` that takes `seconds` for each install, commit and rollback, and fails when it is told to.

    It believes the manifests that `offer` showed it, as p2pd-install believes signed ones; paths are not looked at.
    """

    def __init__(
        self, slots: Path = Path("/slots"), *, unix_now: Callable[[], int] = lambda: 0, seconds: float = 0.0
    ) -> None:
        self.calls: list[tuple[str, str]] = []  # verb and product, in order of arrival
        self.seconds = seconds
        self._slots = slots
        self._unix_now = unix_now
        self._offered: dict[tuple[str, str], tuple[Manifest, str]] = {}
        self._recalled: set[str] = set()
        self._failures: dict[str, list[Reason]] = {}
        self._records: dict[str, ProductRecord] = {}
        self._turns = Turns()

    def offer(self, manifest: Manifest, sha256: str) -> None:
        """From now on the release counts as signed."""
        self._offered[manifest.product, manifest.version] = (manifest, sha256)

    def recall(self, manifest_sha256: str) -> None:
        """From now on the release counts as withdrawn."""
        self._recalled.add(manifest_sha256)

    def fail_next(self, verb: str, reason: Reason) -> None:
        """Let one more call of `verb` fail; nothing changes then."""
        self._failures.setdefault(verb, []).append(reason)

    async def status(self, product: str | None = None) -> Mapping[str, InstalledProduct]:
        """See `Installer`."""
        with _answering():
            self._may_fail("status")
        await trio.lowlevel.checkpoint()
        records = {name: record for name, record in self._records.items() if record.retained}
        return {name: self._describe(record) for name, record in records.items() if product in (None, name)}

    async def install(self, *, product: str, version: str, mirror: Path, transport: Path) -> Installation:
        """See `Installer`."""
        return await self._in_turn("install", product, version, partial(self._install, product, version))

    async def commit(self, *, product: str, manifest_sha256: str) -> None:
        """See `Installer`."""
        await self._in_turn("commit", product, manifest_sha256, partial(self._commit, product, manifest_sha256))

    async def rollback(self, *, product: str, manifest_sha256: str, mirror: Path) -> InstalledRelease | None:
        """See `Installer`."""
        work = partial(self._rollback, product, manifest_sha256)
        return await self._in_turn("rollback", product, manifest_sha256, work)

    async def _in_turn(self, verb: str, product: str, release: str, work: Callable[[], T]) -> T:
        """Take a while, and do the work at its end, when those that asked before have had their turn."""

        async def carry_out() -> T:
            await trio.sleep(self.seconds)
            self._may_fail(verb)
            return work()

        self.calls.append((verb, product))
        with _answering():
            return await self._turns.take(product, (verb, release), carry_out)

    def _install(self, product: str, version: str) -> Installation:
        if (product, version) not in self._offered:
            raise InstallRefused(Reason.METADATA_UNTRUSTED, f"nobody signs {product} {version}")
        manifest, sha256 = self._offered[product, version]
        self._refuse_recalled(sha256)
        record = self._records.get(product) or ProductRecord(product=product, installer=manifest.installer)
        if record.active is None or record.active.manifest_sha256 != sha256:
            admit(record, manifest, sha256)
            if manifest.installer != "slot":
                raise InstallRefused(Reason.INSTALLER_UNKNOWN, f"no installer named {manifest.installer!r} here")
            record = record.installing(self._candidate(record, manifest, sha256), manifest.installer).on_probation()
            self._records[product] = record
        assert record.active is not None
        return Installation(slot=self._slot(record, record.active), previous=_seen(record.previous))

    def _candidate(self, record: ProductRecord, manifest: Manifest, sha256: str) -> Release:
        before = record.candidate.oldest_fallback if record.candidate is not None else 0
        return Release(
            version=manifest.version,
            release_counter=manifest.release_counter,
            manifest_sha256=sha256,
            installed_at=self._unix_now(),
            slot=f"{manifest.release_counter}-{sha256[:12]}",
            oldest_fallback=max(manifest.oldest_fallback, before),
        )

    def _commit(self, product: str, manifest_sha256: str) -> None:
        record = self._records.get(product)
        if record is None or record.active is None or record.active.manifest_sha256 != manifest_sha256:
            raise InstallRefused(Reason.NOT_ON_PROBATION, f"{product}: release {manifest_sha256[:12]} is not in use")
        if record.phase is Phase.PROBATION:
            self._records[product] = record.with_committed_candidate()

    def _rollback(self, product: str, manifest_sha256: str) -> InstalledRelease | None:
        record = self._records.get(product)
        if record is None or record.active is None:
            return None
        if record.active.manifest_sha256 == manifest_sha256:
            sound = [release for release in record.fallbacks if release.manifest_sha256 not in self._recalled]
            if record.fallbacks and not sound:
                self._refuse_recalled(record.fallbacks[0].manifest_sha256)
            record = self._records[product] = record.rolling_back(sound[0] if sound else None).undone()
        return _seen(record.active)

    def _may_fail(self, verb: str) -> None:
        if self._failures.get(verb):
            reason = self._failures[verb].pop(0)
            raise InstallRefused(reason, explain(reason))

    def _refuse_recalled(self, manifest_sha256: str) -> None:
        if manifest_sha256 in self._recalled:
            raise InstallRefused(Reason.RECALLED, explain(Reason.RECALLED))

    def _describe(self, record: ProductRecord) -> InstalledProduct:
        return InstalledProduct(
            active=_seen(record.active),
            previous=_seen(record.previous),
            pending=_seen(record.candidate),
            phase=InstallPhase(record.phase.value),
            slot=None if record.active is None else self._slot(record, record.active),
        )

    def _slot(self, record: ProductRecord, release: Release) -> Path:
        return self._slots / record.product / "slots" / release.slot


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except InstallRefused as refusal:
        raise InstallerFailure(refusal.reason, str(refusal)) from refusal


def _seen(release: Release | None) -> InstalledRelease | None:
    if release is None:
        return None
    return InstalledRelease(
        version=release.version,
        release_counter=release.release_counter,
        manifest_sha256=release.manifest_sha256,
        installed_at=release.installed_at,
    )
