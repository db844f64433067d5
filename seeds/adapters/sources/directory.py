# SPDX-License-Identifier: Apache-2.0
"""Directories as sources. What changes between the first look and the last is refused, never half-packed."""

import os
import stat
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from seeds.adapters.sources.entries import (
    Entry,
    EntryKind,
    entry_path,
    is_executable,
    link_target,
    refuse_special_bits,
)
from seeds.adapters.sources.refusals import changed, of_member, reading
from seeds.adapters.sources.region import CHUNK_BYTES, Fingerprint
from seeds.adapters.sources.tree import Tree
from signing.errors import BadInput

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def read_directory(root: Path, tree: Tree) -> Callable[[], None]:
    """Put everything below `root` into `tree`; the files are read later. Raises BadInput.

    Call what it returns when all has been read: it raises BadInput if something came, went or was renamed meanwhile.
    """
    directories: dict[Path, Fingerprint] = {}
    pending = [root]
    while pending:
        directory = pending.pop()
        with reading(str(directory)):
            directories[directory] = Fingerprint.of(directory.stat())
            with os.scandir(directory) as listing:
                found = [(Path(item.path), item.stat(follow_symlinks=False)) for item in listing]
        for path, facts in found:
            entry = _entry(path, facts, root, tree)
            tree.add(entry)
            if entry.kind is EntryKind.DIRECTORY:
                pending.append(path)
    return partial(_check_unchanged, directories)


def _check_unchanged(directories: dict[Path, Fingerprint]) -> None:
    for directory, fingerprint in directories.items():
        with reading(str(directory)):
            now = Fingerprint.of(directory.stat())
        if now != fingerprint:
            raise changed(str(directory))


def _entry(location: Path, facts: os.stat_result, root: Path, tree: Tree) -> Entry:
    raw = os.fsencode(location.relative_to(root))
    where = of_member(tree.source, raw)
    path = entry_path(raw, tree.source)
    if stat.S_ISDIR(facts.st_mode):
        return Entry(path, EntryKind.DIRECTORY)
    if stat.S_ISLNK(facts.st_mode):
        with reading(where):
            target = os.readlink(os.fsencode(location))  # noqa: PTH115 (the name's bytes, undecoded)
        return Entry(path, EntryKind.SYMLINK, target=link_target(target, path, tree.source))
    if not stat.S_ISREG(facts.st_mode):
        raise BadInput(where, "is a device, a socket or a named pipe", "leave it out")
    refuse_special_bits(facts.st_mode, where)
    if not facts.st_mode & stat.S_IROTH:
        tree.lose("files that not everybody could read, and now can", path)
    return Entry(
        path,
        EntryKind.FILE,
        executable=is_executable(facts.st_mode),
        size=facts.st_size,
        read=partial(_content, location, Fingerprint.of(facts), where),
    )


def _content(location: Path, expected: Fingerprint, where: str) -> Iterator[bytes]:
    with reading(where):
        descriptor = os.open(location, _READ)
    try:
        if Fingerprint.of(os.fstat(descriptor)) != expected:
            raise changed(where)
        while chunk := _read(descriptor, where):
            yield chunk
        if Fingerprint.of(os.fstat(descriptor)) != expected:
            raise changed(where)
    finally:
        os.close(descriptor)


def _read(descriptor: int, where: str) -> bytes:
    with reading(where):
        return os.read(descriptor, CHUNK_BYTES)
