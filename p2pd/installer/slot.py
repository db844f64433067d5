# SPDX-License-Identifier: Apache-2.0
"""The `slot` installer: every release in a directory of its own, and a symbolic link to the one in use.

PRODUCT/slots/7-0a1b2c3d4e5f/…     complete and on the medium before anything points to it
PRODUCT/slots/8-5f4e3d2c1b0a/…
PRODUCT/current -> slots/8-5f4e3d2c1b0a      switched by one rename: old or new, never neither
"""

from collections.abc import Collection
from pathlib import Path

from p2pd.installer.disk import Disk, remove_leftovers, replace_symlink
from p2pd.installer.extract import extract, matches
from signing.trust import VerifiedPayload


class SlotInstaller:
    """Blue and green directories of one product below `directory`. Raises OSError as the kernel gives it."""

    def __init__(self, directory: Path, disk: Disk) -> None:
        self._directory = directory
        self._slots = directory / "slots"
        self._current = directory / "current"
        self._disk = disk

    def path(self, slot: str) -> Path:
        """Where `slot` is, or would be."""
        return self._slots / slot

    def active(self) -> str | None:
        """The slot that `current` names; None when there is no such link."""
        try:
            target = self._current.readlink()
        except FileNotFoundError:
            return None
        return target.name if target.parent == Path("slots") else None

    def holds(self, slot: str) -> bool:
        """Whether there is anything under the name `slot`."""
        return self.path(slot).exists()

    def prepare(self, payload: VerifiedPayload, slot: str) -> None:
        """Unpack `payload` as `slot`, a new name: complete and on the medium when this returns, in use by nobody."""
        for directory in (self._directory, self._slots):
            self._disk.make_directory(directory, 0o755)
        self._disk.sync_directory(self._directory.parent)
        self._disk.require_space(self._slots, payload.manifest.manifest.payload.size)
        self._disk.make_directory(self.path(slot), 0o700)
        extract(payload, self.path(slot), self._disk)
        self._disk.sync_filesystem(self._slots)

    def is_intact(self, payload: VerifiedPayload, slot: str) -> bool:
        """Whether every file of `slot` is as `payload` has it, and there is no other."""
        return self.path(slot).is_dir() and matches(payload, self.path(slot))

    def activate(self, slot: str | None) -> None:
        """Switch to `slot`, durably and in one step; None leaves nothing in use."""
        if slot is not None:
            replace_symlink(self._disk, self._current, f"slots/{slot}")
        elif self._current.is_symlink():
            self._disk.remove(self._current)
            self._disk.sync_directory(self._directory)

    def keep_only(self, slots: Collection[str]) -> None:
        """Remove every slot but those, among them whatever an interruption left half done."""
        if self._slots.is_dir():
            remove_leftovers(self._disk, self._directory)
            for path in sorted(self._slots.iterdir()):
                if path.name not in slots:
                    self._disk.remove_tree(path)
