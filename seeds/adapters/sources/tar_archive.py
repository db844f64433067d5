# SPDX-License-Identifier: Apache-2.0
"""Tars as sources. tarfile reads the headers, within a budget; contents are read from where the headers say they are.

Where readers of tars differ, the archive is refused: sparse members, data behind anything but a regular file, members
after the end, a damaged header (at which tarfile ends without a word), an end that is missing.
"""

import stat
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from seeds.adapters.sources.entries import (
    Entry,
    EntryKind,
    entry_path,
    is_executable,
    link_target,
    refuse_special_bits,
)
from seeds.adapters.sources.refusals import of_member
from seeds.adapters.sources.region import CHUNK_BYTES, MeteredReader, OverBudget, Region
from seeds.adapters.sources.tree import Tree
from signing.errors import BadInput

BLOCK_BYTES = 512
MAX_HEADER_BYTES = 1 << 20  # all headers of one member; a path and a link take 8 KiB, extended attributes some more

_FETCH_AGAIN = "fetch it again, or pack it again"
_SPECIAL_FILES = (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)


def is_tar(region: Region) -> bool:
    """Whether `region` begins with the header of a member, or with the end marker of an empty tar."""
    block = region.read_at(0, BLOCK_BYTES)
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return len(block) == BLOCK_BYTES and not any(block)
    return True


def read_tar(region: Region, tree: Tree, *, of_package: bool = False) -> None:
    """Put the members of the uncompressed tar in `region` into `tree`. Raises BadInput.

    Entries read from `region` later. `of_package`: absolute links mean the package's own root, and owners count.
    """
    for header in _headers(region, tree.source):
        tree.add(_entry(header, region, tree, of_package=of_package))


def _headers(region: Region, source: str) -> Iterator[tarfile.TarInfo]:
    reader = MeteredReader(region)
    try:
        reader.allow(MAX_HEADER_BYTES)
        archive = tarfile.TarFile(fileobj=reader, mode="r", encoding="utf-8", errors="surrogateescape")
        while (header := archive.next()) is not None:
            yield header
            archive.members.clear()  # type: ignore[attr-defined]  # tarfile would keep them all
            reader.allow(MAX_HEADER_BYTES)
    except OverBudget:
        raise BadInput(source, f"has a member with more than {MAX_HEADER_BYTES} bytes of headers") from None
    except (tarfile.TarError, OSError, ValueError, LookupError, OverflowError, RecursionError) as problem:
        raise BadInput(source, f"is no tar that can be read ({problem}): truncated?", _FETCH_AGAIN) from None
    _check_end(region, archive.offset, source)


def _check_end(region: Region, offset: int, source: str) -> None:
    marker = region.read_at(offset, BLOCK_BYTES)
    if len(marker) < BLOCK_BYTES:
        raise BadInput(source, "has no end marker: truncated?", _FETCH_AGAIN)
    if any(marker):
        raise BadInput(source, f"has a damaged header at byte {offset}", _FETCH_AGAIN)
    while chunk := region.read_at(offset, CHUNK_BYTES):
        if any(chunk):
            raise BadInput(source, "goes on after its end: several tars in one file?", "build from one of them")
        offset += len(chunk)


def _entry(header: tarfile.TarInfo, region: Region, tree: Tree, *, of_package: bool) -> Entry:
    raw = header.name.encode("utf-8", errors="surrogateescape")
    where = of_member(tree.source, raw)
    if header.type in _SPECIAL_FILES:
        raise BadInput(where, "is a device or a named pipe", "leave it out: only files, directories and links travel")
    if header.sparse is not None or header.type == tarfile.GNUTYPE_SPARSE:
        raise BadInput(where, "is a sparse file", "pack it without --sparse")
    path = entry_path(raw, tree.source, is_directory=header.isdir())
    if of_package and (header.uid or header.gid):
        tree.lose("owners other than root, which are not kept", path)
    if header.isfile():
        return _file(header, path, region, tree)
    if not (header.isdir() or header.issym() or header.islnk()):
        raise BadInput(where, f"is of the unknown kind {header.type!r}", "pack it again as a plain POSIX or GNU tar")
    if header.size != 0:
        raise BadInput(where, f"declares {header.size} bytes of data, though it is no regular file", _FETCH_AGAIN)
    if header.isdir():
        return Entry(path, EntryKind.DIRECTORY)
    link = header.linkname.encode("utf-8", errors="surrogateescape")
    if header.issym():
        target = link_target(link, path, tree.source, absolute_is_root=of_package)
        if of_package and link.startswith(b"/"):
            tree.lose("absolute links, made relative to the package's root", path)
        return Entry(path, EntryKind.SYMLINK, target=target)
    return _copy_of(link, path, tree)


def _file(header: tarfile.TarInfo, path: str, region: Region, tree: Tree) -> Entry:
    where = of_member(tree.source, path)
    refuse_special_bits(header.mode, where)
    if not 0 <= header.size <= region.size - header.offset_data:
        raise BadInput(where, f"declares {header.size} bytes, more than the tar has: truncated?", _FETCH_AGAIN)
    if not header.mode & stat.S_IROTH:
        tree.lose("files that not everybody could read, and now can", path)
    return Entry(
        path,
        EntryKind.FILE,
        executable=is_executable(header.mode),
        size=header.size,
        read=partial(region.chunks, header.offset_data, header.size),
    )


def _copy_of(link: bytes, path: str, tree: Tree) -> Entry:
    where = of_member(tree.source, path)
    named = entry_path(link, f"{where}, a hard link")
    original = tree.get(named)
    if original is None or original.kind is EntryKind.DIRECTORY:
        problem = f"is a hard link to {named!r}, which is no file before it in the tar"
        raise BadInput(where, problem, "pack it again with --hard-dereference")
    if original.kind is EntryKind.SYMLINK:
        link_target(original.target.encode(), path, tree.source)  # from here, too, it has to stay inside
    return replace(original, path=path)
