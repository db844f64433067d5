# SPDX-License-Identifier: Apache-2.0
"""Directory trees of durable files: many written at once, listed, and cleared of what is left over."""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from signing.durable_file import flush, replace_together, write_durably


def write_files(files: Mapping[Path, bytes]) -> None:
    """Write each file durably, in the order given; missing directories are made first."""
    for path, data in files.items():
        _make_directories(path.parent)
        write_durably(path, data)


def write_together(files: Iterable[tuple[Path, bytes]]) -> None:
    """Write files of which none needs another: each whole at any instant, and all of them durable on return.

    Directories, new ones too, are flushed once at the end, not once for each file: that is most of the time. Nobody
    else may be writing into these directories meanwhile. Raises OSError.
    """
    changed: set[Path] = set()

    def with_directories() -> Iterator[tuple[Path, bytes]]:
        for path, data in files:
            changed.update(_make_unflushed(path.parent))
            changed.add(path.parent)
            yield path, data

    replace_together(with_directories())
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
    return {Path(entry.path) for entry in _entries_below(directory) if entry.name[0] != "." and entry.is_file()}


def remove_unfinished(directory: Path) -> None:
    """Remove the hidden files that killed writers left; nobody may be writing below `directory` meanwhile."""
    remove_files([Path(entry.path) for entry in _entries_below(directory) if entry.name[0] == "." and entry.is_file()])


def remove_empty_directories(directory: Path) -> None:
    """Remove empty directories below `directory`, which itself stays."""
    below = [entry.path for entry in _entries_below(directory) if entry.is_dir(follow_symlinks=False)]
    for path in reversed(below):  # a directory comes before what it holds
        with os.scandir(path) as entries:
            is_empty = next(entries, None) is None
        if is_empty:
            Path(path).rmdir()


def _entries_below(directory: Path) -> Iterator["os.DirEntry[str]"]:
    """All entries below `directory`, each directory's own before those below it; none if it is not there.

    No symbolic link is followed. `Path.rglob` tells the same in five times the time, which thousands of files show.
    """
    waiting = [str(directory)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as found:
                entries = list(found)
        except (FileNotFoundError, NotADirectoryError):  # also one that has just been removed
            continue
        yield from entries
        waiting += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]


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
