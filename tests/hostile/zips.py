# SPDX-License-Identifier: Apache-2.0
"""Named hostile zips, made byte by byte: zipfile would correct, warn about, or refuse to write most of them."""

import stat
import struct
import zlib
from dataclasses import dataclass

_LOCAL = struct.Struct("<4sHHHHHLLLHH")
_CENTRAL = struct.Struct("<4sHHHHHHLLLHHHHHLL")
_END = struct.Struct("<4sHHHHLLH")
UNIX = 3
DEFLATED = 8


@dataclass(frozen=True, kw_only=True)
class ZipMember:
    """One member; what is not None is a lie that replaces the truth, in the central directory, the header or both."""

    name: str | bytes
    data: bytes = b"x"
    mode: int = stat.S_IFREG | 0o644
    flags: int = 0
    method: int = 0
    packed: bytes | None = None  # the bytes stored, if not `data` packed by `method`
    size: int | None = None
    packed_size: int | None = None
    crc: int | None = None
    local_name: str | bytes | None = None
    local_size: int | None = None
    local_flags: int | None = None
    shares_header_of: int | None = None  # index of the member whose local header this one claims as its own


def zip_of(*members: ZipMember, cut: int = 0) -> bytes:
    """A whole zip of `members`, less the last `cut` bytes."""
    body, central, offsets = b"", b"", list[int]()
    for member in members:
        name = _raw(member.name)
        packed = member.packed if member.packed is not None else _pack(member.data, member.method)
        size = len(member.data) if member.size is None else member.size
        packed_size = len(packed) if member.packed_size is None else member.packed_size
        crc = zlib.crc32(member.data) if member.crc is None else member.crc
        if member.shares_header_of is None:
            offsets.append(len(body))
            local_name = name if member.local_name is None else _raw(member.local_name)
            local_size = size if member.local_size is None else member.local_size
            flags = member.flags if member.local_flags is None else member.local_flags
            body += _LOCAL.pack(
                b"PK\3\4", 20, flags, member.method, 0, 0x21, crc, packed_size, local_size, len(local_name), 0
            )
            body += local_name + packed
        else:
            offsets.append(offsets[member.shares_header_of])
        central += _CENTRAL.pack(
            *(b"PK\1\2", UNIX << 8 | 20, 20, member.flags, member.method, 0, 0x21, crc, packed_size, size),
            *(len(name), 0, 0, 0, 0, member.mode << 16, offsets[-1]),
        )
        central += name
    end = _END.pack(b"PK\5\6", 0, 0, len(members), len(members), len(central), len(body), 0)
    whole = body + central + end
    return whole[: len(whole) - cut]


def hostile_zips() -> dict[str, bytes]:
    """Zips that must be refused, by the name of the attack."""
    ok = ZipMember(name="ok.txt", data=b"fine\n")
    text = b"The quick brown fox. " * 50
    link = stat.S_IFLNK | 0o777

    def named(name: str | bytes, flags: int = 0) -> bytes:
        return zip_of(ok, ZipMember(name=name, flags=flags))

    def deflated(**lies: int | bytes | str) -> bytes:
        return zip_of(ok, ZipMember(**{"name": "evil", "data": text, "method": DEFLATED, **lies}))  # type: ignore[arg-type]  # each lie has its field's type

    return {
        "parent_escape": named("../evil"),
        "parent_escape_deep": named("a/../../evil"),
        "absolute": named("/evil"),
        "backslash": named("..\\evil"),
        "drive_letter": named("C:/evil"),
        "dot_part": named("a/./evil"),
        "empty_part": named("a//evil"),
        "empty_name": named(""),
        "nul_in_name": named("good.txt\0evil"),
        "not_utf8": named(b"caf\xe9"),
        "not_utf8_though_flagged": named(b"caf\xe9", flags=0x800),
        "component_too_long": named("n" * 256),
        "path_too_long": named("/".join(["n" * 200] * 21)),
        "duplicate": zip_of(ok, ZipMember(name="ok.txt", data=b"evil")),
        "duplicate_by_dot": zip_of(ok, ZipMember(name="./ok.txt", data=b"evil")),
        "entry_below_file": zip_of(ok, ZipMember(name="ok.txt/evil")),
        "entry_below_symlink": zip_of(
            ok,
            ZipMember(name="d/", data=b"", mode=stat.S_IFDIR | 0o755),
            ZipMember(name="link", data=b"d", mode=link),
            ZipMember(name="link/evil"),
        ),
        "symlink_absolute": zip_of(ok, ZipMember(name="link", data=b"/etc/passwd", mode=link)),
        "symlink_escape": zip_of(ok, ZipMember(name="d/link", data=b"../../evil", mode=link)),
        "symlink_target_huge": zip_of(ok, ZipMember(name="link", data=b"t" * 5000, mode=link)),
        "symlink_without_target": zip_of(ok, ZipMember(name="link", data=b"", mode=link)),
        "fifo": zip_of(ok, ZipMember(name="pipe", data=b"", mode=stat.S_IFIFO | 0o644)),
        "character_device": zip_of(ok, ZipMember(name="null", data=b"", mode=stat.S_IFCHR | 0o644)),
        "setuid": zip_of(ok, ZipMember(name="su", mode=stat.S_IFREG | 0o4755)),
        "setgid": zip_of(ok, ZipMember(name="sg", mode=stat.S_IFREG | 0o2755)),
        "directory_with_data": zip_of(ok, ZipMember(name="d/", data=b"x")),
        "directory_by_mode_only": zip_of(ok, ZipMember(name="d", data=b"", mode=stat.S_IFDIR | 0o755)),
        "directory_by_name_only": zip_of(ok, ZipMember(name="link/", data=b"", mode=link)),
        "encrypted": zip_of(ok, ZipMember(name="secret", flags=0x1)),
        "encrypted_in_header_only": zip_of(ok, ZipMember(name="secret", local_flags=0x1)),
        "method_bzip2": zip_of(ok, ZipMember(name="evil", method=12, packed=b"BZh9")),
        "method_unknown": zip_of(ok, ZipMember(name="evil", method=99, packed=b"x")),
        "inflates_to_more": deflated(size=10, crc=zlib.crc32(text[:10])),
        "inflates_to_less": deflated(size=len(text) + 10),
        "stored_size_lies": zip_of(ok, ZipMember(name="evil", data=text, size=10)),
        "packed_size_too_small": deflated(packed_size=5),
        "packed_size_too_large": deflated(packed=_pack(text, DEFLATED) + b"hidden"),
        "packed_size_beyond_end": deflated(packed_size=1 << 20),
        "wrong_checksum": deflated(crc=1),
        "not_deflated": deflated(packed=b"\xff" * 40),
        "header_has_another_size": deflated(local_size=10),
        "header_has_another_name": zip_of(ok, ZipMember(name="evil", local_name="good")),
        "overlap": zip_of(ok, ZipMember(name="ok.txt", data=b"fine\n", shares_header_of=0)),
        "overlap_under_another_name": zip_of(ok, ZipMember(name="evil", data=b"fine\n", shares_header_of=0)),
        "ratio_bomb_declared": deflated(size=0xFFFF_FFF0),
        "ratio_bomb_in_sum": zip_of(
            *(ZipMember(name=f"{i}", data=text, method=DEFLATED, size=1 << 25) for i in range(9))
        ),
        "no_central_directory": zip_of(ok, cut=40),
        "cut_in_data": zip_of(ok)[:40],
        "central_directory_elsewhere": zip_of(ok)[:-6] + struct.pack("<LH", 1 << 30, 0),
        "nothing_in_it": zip_of(),
        "garbage_behind_magic": b"PK\3\4" + b"garbage" * 100,
    }


def _pack(data: bytes, method: int) -> bytes:
    if method != DEFLATED:
        return data
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


def _raw(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
