# SPDX-License-Identifier: Apache-2.0
"""p2pd-install as a process of its own: it may be away, and it finishes what it began when whoever asked is dead."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio

from p2pd.ports import Installation, InstalledProduct, InstalledRelease, InstallerFailure
from signing.reasons import Reason
from tests.fakes.fake_installer import FakeInstaller

T = TypeVar("T")


class InstallerProcess:
    """Implements `p2pd.ports.Installer`. While `is_away`, neither requests nor answers get through."""

    def __init__(self, installer: FakeInstaller, nursery: trio.Nursery) -> None:
        self.inside = installer
        self.is_away = False
        self.asked_for: list[str] = []  # versions to install, in order
        self.transports: list[Path] = []  # the files that were handed over with them
        self._nursery = nursery

    def version_of(self, product: str) -> str | None:
        """The version of `product` in use, on probation or committed."""
        record = self.inside._records.get(product)
        return record.active.version if record is not None and record.active is not None else None

    async def status(self, product: str | None = None) -> Mapping[str, InstalledProduct]:
        """See `Installer`."""
        return await self._ask(partial(self.inside.status, product))

    async def install(self, *, product: str, version: str, mirror: Path, transport: Path) -> Installation:
        """See `Installer`."""
        self.asked_for.append(version)
        self.transports.append(transport)
        install = partial(self.inside.install, product=product, version=version, mirror=mirror, transport=transport)
        if not transport.is_file():
            raise InstallerFailure(Reason.PAYLOAD_MISSING, f"{transport}: No such file or directory")
        return await self._ask(install)

    async def commit(self, *, product: str, manifest_sha256: str) -> None:
        """See `Installer`."""
        await self._ask(partial(self.inside.commit, product=product, manifest_sha256=manifest_sha256))

    async def rollback(self, *, product: str, manifest_sha256: str, mirror: Path) -> InstalledRelease | None:
        """See `Installer`."""
        rollback = partial(self.inside.rollback, product=product, manifest_sha256=manifest_sha256, mirror=mirror)
        return await self._ask(rollback)

    async def _ask(self, call: Callable[[], Awaitable[T]]) -> T:
        self._require_presence()
        answers: list[T | InstallerFailure] = []
        answered = trio.Event()

        async def carry_out() -> None:
            try:
                answers.append(await call())
            except InstallerFailure as failure:
                answers.append(failure)
            answered.set()

        self._nursery.start_soon(carry_out)
        await answered.wait()
        self._require_presence()
        if isinstance(answers[0], InstallerFailure):
            raise answers[0]
        return answers[0]

    def _require_presence(self) -> None:
        if self.is_away:
            raise InstallerFailure(Reason.INSTALLER_UNREACHABLE, "p2pd-install.sock: Connection refused")
