# SPDX-License-Identifier: Apache-2.0
"""Disks on which the power fails before the n-th operation, and disks that run full."""

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from p2pd.installer.disk import Disk

INSTALL_ROOT = "root"


class SimulatedPowerCut(BaseException):
    """No `except Exception` sees it, as no code sees a power cut."""


class CountingDisk(Disk):
    """Dies before operation number `dies_before` (from 0). Waits for no medium: what a sync is worth, subclasses say."""

    def __init__(self, dies_before: int | None = None) -> None:
        self.operations: list[str] = []
        self._dies_before = dies_before

    def _begin(self, operation: str) -> None:
        if len(self.operations) == self._dies_before:
            self.lose_power()
            raise SimulatedPowerCut(f"before {operation}, after {self.operations}")
        self.operations.append(operation)

    def lose_power(self) -> None:
        """A kill: what was done stays done."""

    def make_directory(self, path: Path, mode: int = 0o700) -> None:
        """See Disk."""
        self._begin("make_directory")
        super().make_directory(path, mode)

    def create_file(self, name: str | Path, *, mode: int = 0o600, directory: int | None = None) -> int:
        """See Disk."""
        self._begin("create_file")
        return super().create_file(name, mode=mode, directory=directory)

    def symlink(self, target: str, name: str | Path, *, directory: int | None = None) -> None:
        """See Disk."""
        self._begin("symlink")
        super().symlink(target, name, directory=directory)

    def rename(self, source: Path, target: Path) -> None:
        """See Disk."""
        self._begin("rename")
        super().rename(source, target)

    def remove(self, path: Path) -> None:
        """See Disk."""
        self._begin("remove")
        super().remove(path)

    def remove_tree(self, path: Path) -> None:
        """See Disk."""
        self._begin("remove_tree")
        super().remove_tree(path)

    def sync_file(self, descriptor: int) -> None:
        """See Disk."""
        self._begin("sync_file")

    def sync_directory(self, path: Path) -> None:
        """See Disk."""
        self._begin("sync_directory")

    def sync_filesystem(self, path: Path) -> None:
        """See Disk."""
        self._begin("sync_filesystem")


class ForgetfulDisk(CountingDisk):
    """A power cut that loses all that no sync has vouched for: names by their directory, contents by their file.

    Real file systems lose less, and in order; what survives this survives them. `state` and `root` are two of them.
    """

    def __init__(self, attic: Path, dies_before: int | None = None) -> None:
        super().__init__(dies_before)
        self._attic = attic  # keeps what was removed or replaced, in case that is forgotten
        self._attic.mkdir(parents=True, exist_ok=True)
        self._undo: list[tuple[Path, Callable[[], object]]] = []
        self._unwritten: set[Path] = set()

    def make_directory(self, path: Path, mode: int = 0o700) -> None:
        """See Disk."""
        is_new = not path.exists()
        super().make_directory(path, mode)
        if is_new:
            self._undo.append((path.parent, lambda: shutil.rmtree(path)))

    def create_file(self, name: str | Path, *, mode: int = 0o600, directory: int | None = None) -> int:
        """See Disk."""
        descriptor = super().create_file(name, mode=mode, directory=directory)
        path = _path_of(descriptor)
        self._unwritten.add(path)
        self._undo.append((path.parent, path.unlink))
        return descriptor

    def symlink(self, target: str, name: str | Path, *, directory: int | None = None) -> None:
        """See Disk."""
        super().symlink(target, name, directory=directory)
        path = Path(name) if directory is None else _path_of(directory) / name
        self._undo.append((path.parent, path.unlink))

    def rename(self, source: Path, target: Path) -> None:
        """See Disk."""
        keep = self._attic / str(len(self.operations))
        if target.is_symlink() or target.exists():
            shutil.copy2(target, keep, follow_symlinks=False)
        super().rename(source, target)
        is_written = source not in self._unwritten
        self._unwritten.discard(source)
        if not is_written:
            self._unwritten.add(target)

        def undo() -> None:
            target.replace(source)
            if keep.is_symlink() or keep.exists():
                keep.replace(target)

        self._undo.append((target.parent, undo))

    def remove(self, path: Path) -> None:
        """See Disk."""
        self._stash(path)
        super().remove(path)

    def remove_tree(self, path: Path) -> None:
        """See Disk."""
        self._stash(path)
        super().remove_tree(path)

    def sync_file(self, descriptor: int) -> None:
        """See Disk."""
        super().sync_file(descriptor)
        self._unwritten.discard(_path_of(descriptor))

    def sync_directory(self, path: Path) -> None:
        """See Disk."""
        super().sync_directory(path)
        self._undo = [(parent, undo) for parent, undo in self._undo if parent != path]

    def sync_filesystem(self, path: Path) -> None:
        """See Disk."""
        super().sync_filesystem(path)
        root = next(parent for parent in path.parents if parent.name == INSTALL_ROOT)
        self._undo = [(parent, undo) for parent, undo in self._undo if not parent.is_relative_to(root)]
        self._unwritten = {file for file in self._unwritten if not file.is_relative_to(root)}

    def lose_power(self) -> None:
        """Forget."""
        for path in self._unwritten:
            with contextlib.suppress(FileNotFoundError):
                os.truncate(path, 0)
        for _, undo in reversed(self._undo):
            with contextlib.suppress(FileNotFoundError):
                undo()

    def _stash(self, path: Path) -> None:
        keep = self._attic / str(len(self.operations))
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, keep, symlinks=True)
        elif path.is_symlink() or path.exists():
            shutil.copy2(path, keep, follow_symlinks=False)
        else:
            return
        self._undo.append((path.parent, lambda: keep.replace(path)))


class FullDisk(Disk):
    """Has room for the first `files` files and not a byte for the next one, which is written to /dev/full."""

    REFUSES: ClassVar[str] = "/dev/full"  # the kernel's own ENOSPC

    def __init__(self, files: int) -> None:
        self.left = files

    def create_file(self, name: str | Path, *, mode: int = 0o600, directory: int | None = None) -> int:
        """See Disk."""
        self.left -= 1
        if self.left >= 0:
            return super().create_file(name, mode=mode, directory=directory)
        os.close(super().create_file(name, mode=mode, directory=directory))
        return os.open(self.REFUSES, os.O_WRONLY)


def _path_of(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}").readlink()
