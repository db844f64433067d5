# SPDX-License-Identifier: Apache-2.0
"""Directory trees of durable files: many written at once, listed, and cleared of what is left over."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from signing.durable_file import flush, replace_whole, write_durably


def write_files(files: Mapping[Path, bytes]) -> None:
    """Write each file durably, in the order given; missing directories are made first."""
    for path, data in files.items():
        _make_directories(path.parent)
        write_durably(path, data)


def write_together(files: Iterable[tuple[Path, bytes]]) -> None:
    """Write files of which none needs another: each whole at any instant, and all of them durable on return.

    Directories, new ones too, are flushed once at the end, not once for each file: that is most of the time.
    """
    changed: set[Path] = set()
    for path, data in files:
        changed |= _make_unflushed(path.parent)
        replace_whole(path, data)
        changed.add(path.parent)
    for directory in sorted(changed):  # from the outside in
        flush(directory)


def rename(source: Path, target: Path) -> None:
    """Move `source` over `target`, in the same directory, durably."""
    source.replace(target)
    flush(target.parent)


def remove_files(paths: Iterable[Path]) -> None:
    """Remove what is there. Not flushed: callers remove again whatever a power cut brings back."""
    for path in paths:
        path.unlink(missing_ok=True)


def files_below(directory: Path) -> set[Path]:
    """All files below `directory`, but for hidden ones, which belong to writers."""
    return {path for path in directory.rglob("*") if path.is_file() and not path.name.startswith(".")}


def remove_unfinished(directory: Path) -> None:
    """Remove the hidden files that killed writers left; nobody may be writing below `directory` meanwhile."""
    remove_files([path for path in directory.rglob(".*") if path.is_file()])


def remove_empty_directories(directory: Path) -> None:
    """Remove empty directories below `directory`, which itself stays."""
    for path in sorted(directory.rglob("*"), reverse=True):  # a directory sorts before what it holds
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def _make_unflushed(directory: Path) -> set[Path]:
    """Make a directory and those above it; the directories that have to be flushed for it to last."""
    if directory.is_dir():
        return set()
    changed = _make_unflushed(directory.parent) | {directory.parent}
    directory.mkdir(exist_ok=True)
    return changed


def _make_directories(directory: Path) -> None:
    if directory.is_dir():
        return
    _make_directories(directory.parent)
    directory.mkdir(exist_ok=True)
    flush(directory.parent)
