# SPDX-License-Identifier: Apache-2.0
"""Zips and wheels as sources. zipfile reads the central directory, within a budget; contents are inflated here,
so that each must be exactly as long, packed and unpacked, as the central directory and its own header say.
"""

import email
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial

from seeds.adapters.sources.compression import check_ratio
from seeds.adapters.sources.entries import (
    MAX_PATH_BYTES,
    Entry,
    EntryKind,
    entry_path,
    is_executable,
    link_target,
    refuse_special_bits,
)
from seeds.adapters.sources.refusals import of_member
from seeds.adapters.sources.region import CHUNK_BYTES, MeteredReader, OverBudget, Region
from seeds.adapters.sources.suggestions import Suggested, printable
from seeds.adapters.sources.tree import Tree
from signing.errors import BadInput

MAX_CENTRAL_DIRECTORY_BYTES = 64 * 2**20  # 500,000 members of 130 bytes each
MAX_METADATA_BYTES = 1 << 20

_LOCAL_HEADER = struct.Struct("<4s2xHH4xLLLHH")
_ENCRYPTED, _SIZES_FOLLOW, _UTF8 = 0x1 | 0x40 | 0x2000, 0x8, 0x800
_ZIP64_EXTRA, _IN_ZIP64_EXTRA = 1, 0xFFFF_FFFF
_PACK_AGAIN = "fetch it again, or pack it again"
_METADATA = re.compile(r"[^/]+\.dist-info/METADATA")


def read_zip(region: Region, tree: Tree) -> None:
    """Put the members of the zip in `region` into `tree`; contents are read from `region` later. Raises BadInput."""
    members = _central_directory(region, tree.source)
    check_ratio(tree.source, packed=region.size, unpacked=sum(member.file_size for member in members))
    end_of_previous = 0
    for member in sorted(members, key=lambda member: member.header_offset):
        name = _raw_name(member)
        where = of_member(tree.source, name)
        if member.header_offset < end_of_previous:
            raise BadInput(where, "lies over another member, or before the beginning", _PACK_AGAIN)
        start = _start_of_data(member, name, region, where)
        end_of_previous = start + member.compress_size
        tree.add(_entry(member, name, region.part(start, member.compress_size), tree))


def describe_wheel(tree: Tree) -> Suggested:
    """What the metadata of a wheel says of it; nothing of another zip."""
    found = [entry for entry in tree if _METADATA.fullmatch(entry.path) and entry.size <= MAX_METADATA_BYTES]
    if len(found) != 1:
        return Suggested(ignored=tree.losses())
    text = b"".join(found[0].read()).decode(errors="replace")
    fields = email.message_from_string(text)
    name = fields.get("Name")
    return Suggested(
        product=printable(re.sub(r"[-_.]+", "-", name).lower()) if name else None,  # PyPI's normal form
        version=printable(fields.get("Version")),
        depends=printable(", ".join(fields.get_all("Requires-Dist", []))),
        summary=printable(fields.get("Summary")),
        ignored=tree.losses(),
    )


def _central_directory(region: Region, source: str) -> list[zipfile.ZipInfo]:
    reader = MeteredReader(region)
    reader.allow(MAX_CENTRAL_DIRECTORY_BYTES)
    try:
        with zipfile.ZipFile(reader) as archive:
            return archive.infolist()
    except OverBudget:
        problem = f"has a central directory of more than {MAX_CENTRAL_DIRECTORY_BYTES} bytes"
        raise BadInput(source, problem, "split the patch") from None
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError, LookupError, struct.error) as problem:
        raise BadInput(source, f"is not a readable zip ({problem}): truncated?", _PACK_AGAIN) from None


def _raw_name(member: zipfile.ZipInfo) -> bytes:
    # Info-ZIP stores UTF-8 without saying so; zipfile then decodes it as code page 437, which loses nothing.
    return member.orig_filename.encode("utf-8" if member.flag_bits & _UTF8 else "cp437")


def _start_of_data(member: zipfile.ZipInfo, name: bytes, region: Region, where: str) -> int:
    if member.flag_bits & _ENCRYPTED:
        raise BadInput(where, "is encrypted", "pack it again without a password")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        problem = f"is compressed by method {member.compress_type}, not by deflate"
        raise BadInput(where, problem, "pack it again with deflate")
    header = region.read_at(member.header_offset, _LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size or not header.startswith(b"PK\3\4"):
        raise BadInput(where, "is not where the central directory says", _PACK_AGAIN)
    _, flags, method, crc, packed, size, name_length, extra_length = _LOCAL_HEADER.unpack(header)
    after = member.header_offset + _LOCAL_HEADER.size
    tail = region.read_at(after, name_length + extra_length)
    local_name, extra = tail[:name_length], tail[name_length:]
    if _IN_ZIP64_EXTRA in (size, packed):
        size, packed = _zip64_sizes(extra, size, packed)
    told = (crc, packed, size)
    expected = (member.CRC, member.compress_size, member.file_size)
    agrees = all(a == b or (a == 0 and flags & _SIZES_FOLLOW) for a, b in zip(told, expected, strict=True))
    if local_name != name or method != member.compress_type or (flags ^ member.flag_bits) & _ENCRYPTED or not agrees:
        raise BadInput(where, "has another name or size in its own header than in the central directory", _PACK_AGAIN)
    return after + len(local_name) + len(extra)


def _zip64_sizes(extra: bytes, size: int, packed: int) -> tuple[int, int]:
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        body, extra = extra[4 : 4 + length], extra[4 + length :]
        if kind == _ZIP64_EXTRA:
            values = [value for (value,) in struct.iter_unpack("<Q", body[: len(body) // 8 * 8])]
            if size == _IN_ZIP64_EXTRA and values:
                size = values.pop(0)
            if packed == _IN_ZIP64_EXTRA and values:
                packed = values.pop(0)
            break
    return size, packed


def _entry(member: zipfile.ZipInfo, name: bytes, packed: Region, tree: Tree) -> Entry:
    where = of_member(tree.source, name)
    mode = member.external_attr >> 16  # Unix; 0 from systems that know no modes
    is_directory = name.endswith(b"/")
    path = entry_path(name, tree.source, is_directory=is_directory)
    kind = stat.S_IFMT(mode)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
        raise BadInput(where, "is a device, a socket or a named pipe", "leave it out")
    if is_directory or kind == stat.S_IFDIR:
        if not is_directory or member.file_size or kind not in (0, stat.S_IFDIR):
            raise BadInput(where, "is a directory by its name or its mode, and is not by the other", _PACK_AGAIN)
        return Entry(path, EntryKind.DIRECTORY)
    content = partial(_content, packed, member, where)
    if kind == stat.S_IFLNK:
        if member.file_size > MAX_PATH_BYTES:
            raise BadInput(where, f"is a link with a target of {member.file_size} bytes")
        return Entry(path, EntryKind.SYMLINK, target=link_target(b"".join(content()), path, tree.source))
    refuse_special_bits(mode, where)
    if mode and not mode & stat.S_IROTH:
        tree.lose("files that not everybody could read, and now can", path)
    return Entry(path, EntryKind.FILE, executable=is_executable(mode), size=member.file_size, read=content)


def _content(packed: Region, member: zipfile.ZipInfo, where: str) -> Iterator[bytes]:
    checksum, size = 0, 0
    unpack = _stored if member.compress_type == zipfile.ZIP_STORED else _inflated
    for chunk in unpack(packed, where):
        checksum = zlib.crc32(chunk, checksum)
        size += len(chunk)
        if size > member.file_size:
            break
        yield chunk
    if size != member.file_size:
        raise BadInput(where, f"is not of the {member.file_size} bytes that it declares", _PACK_AGAIN)
    if checksum != member.CRC:
        raise BadInput(where, "does not match its checksum", _PACK_AGAIN)


def _stored(packed: Region, _where: str) -> Iterator[bytes]:
    return packed.chunks(0, packed.size)


def _inflated(packed: Region, where: str) -> Iterator[bytes]:
    decompressor = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for chunk in packed.chunks(0, packed.size):
            pending = chunk
            while True:
                inflated = decompressor.decompress(pending, CHUNK_BYTES)
                pending = decompressor.unconsumed_tail
                if inflated:
                    yield inflated
                if not pending and len(inflated) < CHUNK_BYTES:
                    break
    except zlib.error as problem:
        raise BadInput(where, f"cannot be inflated ({problem})", _PACK_AGAIN) from None
    if not decompressor.eof or decompressor.unused_data:
        raise BadInput(where, "is not of the packed size that it declares", _PACK_AGAIN)
