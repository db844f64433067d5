# SPDX-License-Identifier: Apache-2.0
"""Unpacking a verified payload into a directory, and telling whether a directory still is that payload.

Both read the payload once, decompressing as they go: each of its bytes is hashed exactly once, files in the directory
are compared with the bytes of the payload and never hashed.
"""

import errno
import io
import os
import stat
from pathlib import Path
from typing import BinaryIO

from p2pd.installer.archive import Kind, Member, members
from p2pd.installer.disk import Disk
from p2pd.installer.payload_stream import PayloadStream
from p2pd.installer.refusal import UnsafePayload
from p2pd.installer.tree import IMPLIED_MODE, Tree, open_regular
from signing.trust import VerifiedPayload

ROOT_MODE = 0o755
_MEMBERS_COLLIDE = {errno.EEXIST, errno.ENOTDIR, errno.ELOOP, errno.EISDIR}
_BEYOND_THE_FILE_SYSTEM = {errno.ENAMETOOLONG, errno.EILSEQ, errno.EFBIG, errno.EMLINK}  # for good, on this endpoint
_NOT_WHAT_WAS_PUT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL}


def extract(payload: VerifiedPayload, into: Path, disk: Disk) -> None:
    """Unpack into the empty directory `into`, which nobody else may enter before this returns.

    Raises UnsafePayload, ContentMismatch or OSError; then `into` holds part of the payload, to be thrown away.
    """
    where = _name(payload)
    directories: set[tuple[str, ...]] = set()
    with payload.path.open("rb") as transport, Tree(into) as tree:
        stream = _stream(payload, transport, where)
        for member in members(stream, where=where):
            if member.path in directories:
                raise UnsafePayload(f"{where}: member {'/'.join(member.path)!r}", "stands twice in the payload")
            try:
                if member.kind is Kind.DIRECTORY:
                    directories.add(member.path)
                    os.fchmod(tree.directory(member.path, create=True), member.mode)
                elif member.kind is Kind.SYMLINK:
                    parent = tree.directory(member.path[:-1], create=True)
                    disk.symlink(member.target, member.path[-1], directory=parent)
                else:
                    parent = tree.directory(member.path[:-1], create=True)
                    _write(disk.create_file(member.path[-1], directory=parent), stream, member)
            except OSError as problem:
                member_name = f"{where}: member {'/'.join(member.path)!r}"
                if problem.errno in _MEMBERS_COLLIDE:
                    raise UnsafePayload(member_name, f"is in the way of another member ({problem.strerror})") from None
                if problem.errno in _BEYOND_THE_FILE_SYSTEM:
                    raise UnsafePayload(member_name, f"is more than this disk can hold ({problem.strerror})") from None
                raise
    into.chmod(ROOT_MODE)


def matches(payload: VerifiedPayload, directory: Path) -> bool:
    """Whether `directory` holds exactly what `extract` would put there: contents, types, modes, owner, no more.

    Raises UnsafePayload, ContentMismatch or OSError if the payload itself cannot be read.
    """
    where = _name(payload)
    expected: dict[tuple[str, ...], tuple[Kind, int]] = {(): (Kind.DIRECTORY, ROOT_MODE)}
    with payload.path.open("rb") as transport:
        stream = _stream(payload, transport, where)
        try:
            with Tree(directory) as tree:
                for member in members(stream, where=where):
                    for depth in range(1, len(member.path)):
                        expected.setdefault(member.path[:depth], (Kind.DIRECTORY, IMPLIED_MODE))
                    expected[member.path] = (member.kind, member.mode)
                    if not _same_content(tree, stream, member):
                        return False
        except OSError as problem:
            if problem.errno not in _NOT_WHAT_WAS_PUT_THERE:
                raise
            return False
    return _same_entries(directory, expected)


def _write(descriptor: int, stream: PayloadStream, member: Member) -> None:
    try:
        for chunk in stream.content(member.size):
            _write_all(descriptor, chunk)
        os.fchmod(descriptor, member.mode)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _same_content(tree: Tree, stream: PayloadStream, member: Member) -> bool:
    if member.kind is Kind.DIRECTORY:
        return True  # its entry is compared with all others at the end
    parent, name = tree.directory(member.path[:-1]), member.path[-1]
    if member.kind is Kind.SYMLINK:
        facts = os.stat(name, dir_fd=parent, follow_symlinks=False)
        return stat.S_ISLNK(facts.st_mode) and os.readlink(name, dir_fd=parent) == member.target
    with open_regular(name, directory=parent) as file:
        if os.fstat(file.fileno()).st_size != member.size:
            return False
        # A file that shrinks meanwhile gives less than a chunk, which is not that chunk.
        return all(_read_all(file, len(chunk)) == chunk for chunk in stream.content(member.size))


def _read_all(file: io.FileIO, size: int) -> bytes:
    parts = []
    while size and (part := file.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _same_entries(directory: Path, expected: dict[tuple[str, ...], tuple[Kind, int]]) -> bool:
    seen = 0
    pending: list[tuple[str, ...]] = [()]
    with Tree(directory) as tree:
        while pending:
            path = pending.pop()
            descriptor = tree.directory(path)
            seen += 1
            if not _same_entry(os.fstat(descriptor), expected.get(path)):
                return False
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    below = (*path, entry.name)
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(below)
                    elif _same_entry(entry.stat(follow_symlinks=False), expected.get(below)):
                        seen += 1
                    else:
                        return False
    return seen == len(expected)


def _same_entry(facts: os.stat_result, expected: tuple[Kind, int] | None) -> bool:
    if expected is None or facts.st_uid != os.geteuid():
        return False
    kind, mode = expected
    if kind is Kind.SYMLINK:
        return stat.S_ISLNK(facts.st_mode)
    is_kind = stat.S_ISDIR(facts.st_mode) if kind is Kind.DIRECTORY else stat.S_ISREG(facts.st_mode)
    return is_kind and stat.S_IMODE(facts.st_mode) == mode


def _stream(payload: VerifiedPayload, transport: BinaryIO, where: str) -> PayloadStream:
    content, is_compressed = payload.manifest.manifest.payload, payload.transport is not None
    return PayloadStream(transport, content, where=where, is_compressed=is_compressed)


def _name(payload: VerifiedPayload) -> str:
    manifest = payload.manifest.manifest
    return f"payload of {manifest.product} {manifest.version}"
