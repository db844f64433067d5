# SPDX-License-Identifier: Apache-2.0
"""The members of a payload, each checked before it is handed on: the only reader of tars in p2pd-install.

A payload holds regular files, directories, and symbolic links that stay inside it. Everything else is refused:
hard links, devices, sparse files, set-id bits, names that leave, a name twice, sizes that lie.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from p2pd.installer.payload_stream import PayloadStream
from p2pd.installer.refusal import UnsafePayload

MAX_MEMBERS = 500_000  # a Linux source tree has 90,000; each costs a comparison about 200 bytes of memory
MAX_DEPTH = 64
MAX_PART_BYTES = 255  # NAME_MAX
MAX_PATH_BYTES = 3_072  # leaves room for the slot's own path below PATH_MAX (4,096)
MAX_FILE_MODE = 0o777


class Kind(Enum):
    """What a payload may hold."""

    FILE = auto()
    DIRECTORY = auto()
    SYMLINK = auto()


@dataclass(frozen=True)
class Member:
    """One entry. `mode` is the mode it gets: group and others never write, the owner can always read (and enter)."""

    path: tuple[str, ...]
    kind: Kind
    mode: int
    size: int
    target: str


def members(stream: PayloadStream, *, where: str) -> Iterator[Member]:
    """Yield the members in order; whoever iterates takes each file's bytes from `stream.content` before going on.

    When the iteration ends by itself, the whole payload has been checked against its size and SHA-256.
    Raises UnsafePayload or ContentMismatch.
    """
    count = 0
    for count, header in enumerate(_headers(stream, where), start=1):
        if count > MAX_MEMBERS:
            raise UnsafePayload(where, f"has more than {MAX_MEMBERS} members")
        yield _checked(header, where)
    if count == 0:
        raise UnsafePayload(where, "is an empty archive")
    stream.finish()


def _headers(stream: PayloadStream, where: str) -> Iterator[tarfile.TarInfo]:
    try:
        stream.begin_header()
        # PAX and GNU headers alike; stdlib reads them, `stream` bounds how much they may take.
        archive = tarfile.TarFile(fileobj=stream, mode="r", encoding="utf-8", errors="strict")
        while (header := archive.next()) is not None:
            yield header
            archive.members.clear()  # type: ignore[attr-defined]  # it would keep them all; unknown to typeshed
            stream.begin_header()
    except (tarfile.TarError, UnicodeError, ValueError, OverflowError, RecursionError) as problem:
        raise UnsafePayload(where, f"is not a readable tar ({problem})") from None


def _checked(header: tarfile.TarInfo, where: str) -> Member:
    where = f"{where}: member {header.name!r}"
    path = _path(header.name, where)
    if header.mode & ~MAX_FILE_MODE:
        raise UnsafePayload(where, f"has mode {header.mode:o}; set-id and sticky bits are not allowed")
    if header.sparse is not None:
        raise UnsafePayload(where, "is a sparse file")
    if header.type in (tarfile.REGTYPE, tarfile.AREGTYPE):
        if header.size < 0:
            raise UnsafePayload(where, f"has size {header.size}")
        return Member(path, Kind.FILE, header.mode & 0o755 | 0o400, header.size, "")
    if header.size != 0:
        raise UnsafePayload(where, "has data, though it is no regular file")
    if header.type == tarfile.DIRTYPE:
        return Member(path, Kind.DIRECTORY, header.mode & 0o755 | 0o700, 0, "")
    if header.type == tarfile.SYMTYPE:
        _check_target(header.linkname, path, where)
        return Member(path, Kind.SYMLINK, 0o777, 0, header.linkname)
    raise UnsafePayload(where, "is neither a regular file nor a directory nor a symbolic link")


def _path(name: str, where: str) -> tuple[str, ...]:
    parts = tuple(name.split("/"))
    if any(part in ("", ".", "..") for part in parts):
        raise UnsafePayload(where, "is not a plain path relative to the payload")
    if "\\" in name or ":" in parts[0][1:2]:
        raise UnsafePayload(where, "reads as a path on another system (a backslash or a drive letter)")
    _check_text(name, where)
    if len(parts) > MAX_DEPTH or any(len(part.encode()) > MAX_PART_BYTES for part in parts):
        raise UnsafePayload(where, f"is deeper than {MAX_DEPTH} or has a part longer than {MAX_PART_BYTES} bytes")
    return parts


def _check_target(target: str, path: tuple[str, ...], where: str) -> None:
    # ".." only at the beginning: there it means real directories, since the link's own parents are no links. After a
    # name it would mean the parent of wherever that name leads, which text alone cannot tell (d/up -> ..; d/up/..).
    ups, below = 0, False
    for part in target.split("/"):
        if part == ".." and below:
            raise UnsafePayload(where, f"links to {target!r}; '..' is allowed at the beginning only")
        ups += part == ".."
        below = below or part not in ("", ".", "..")
    if not target or target.startswith("/") or ups > len(path) - 1:
        raise UnsafePayload(where, f"links to {target!r}, outside of the payload")
    _check_text(target, where)


def _check_text(text: str, where: str) -> None:
    if "\0" in text or len(text.encode(errors="surrogateescape")) > MAX_PATH_BYTES:
        raise UnsafePayload(where, f"has a NUL byte, or a path longer than {MAX_PATH_BYTES} bytes")
