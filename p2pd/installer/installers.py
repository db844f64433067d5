# SPDX-License-Identifier: Apache-2.0
"""The interface of installers, found by entry point in the group `p2pd.installers`."""

from collections.abc import Callable, Collection
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol, cast

from p2pd.installer.disk import Disk
from p2pd.installer.refusal import InstallRefused
from signing.reasons import Reason
from signing.trust import VerifiedPayload

GROUP = "p2pd.installers"


class PackageInstaller(Protocol):
    """Puts releases of one product on the disk and switches between them. It decides nothing and keeps no record.

    `slot` is a name that the caller chooses for each unpacked release. Methods raise OSError, UnsafePayload or
    ContentMismatch, and leave what is in use as it was when they do.
    """

    def path(self, slot: str) -> Path:
        """Where `slot` is, or would be."""

    def active(self) -> str | None:
        """The slot that is in use, or None."""

    def holds(self, slot: str) -> bool:
        """Whether there is anything under the name `slot`."""

    def prepare(self, payload: VerifiedPayload, slot: str) -> None:
        """Bring `payload` to the disk as `slot`, a new name, complete and durable; what is in use stays in use."""

    def is_intact(self, payload: VerifiedPayload, slot: str) -> bool:
        """Whether `slot` is exactly what `payload` holds."""

    def activate(self, slot: str | None) -> None:
        """Switch to `slot` in one durable step, or to nothing at all; doing so again changes nothing."""

    def keep_only(self, slots: Collection[str]) -> None:
        """Remove all but those slots."""


InstallerFactory = Callable[[Path, Disk], PackageInstaller]


@cache  # what is installed beside a running process does not change under it, and looking takes 5 ms
def find_installer(kind: str) -> InstallerFactory:
    """The installer that the entry point `kind` names. Raises InstallRefused (installer_unknown)."""
    found = entry_points(group=GROUP, name=kind)
    if len(found) != 1:
        present = ", ".join(sorted({entry.name for entry in entry_points(group=GROUP)}))
        number = "no installer" if not found else f"{len(found)} installers"
        raise InstallRefused(Reason.INSTALLER_UNKNOWN, f"{number} named {kind!r} here; present are: {present}")
    return cast("InstallerFactory", next(iter(found)).load())
