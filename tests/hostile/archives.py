# SPDX-License-Identifier: Apache-2.0
"""Named hostile archives, small and made byte by byte, so that no library has a say in what they lie about.

`hostile_tars` are those that no extractor may accept; `malformed_tars` are only broken, cut, or ambiguous between
readers: a builder refuses them, while an extractor that has checked the tar's SHA-256 never meets them.
"""

import struct
import zlib

BLOCK = 512
END = bytes(2 * BLOCK)

REGULAR, HARD_LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
PAX, GNU_LONG_NAME, GNU_SPARSE = b"x", b"L", b"S"


def tar_member(
    name: str | bytes,
    data: bytes = b"",
    *,
    kind: bytes = REGULAR,
    mode: int = 0o644,
    link: str | bytes = b"",
    declared_size: int | None = None,
    checksum_error: int = 0,
) -> bytes:
    """One ustar header with its data; `declared_size` lies about the data, negative or huge if need be."""
    raw_name, raw_link = _raw(name), _raw(link)
    if max(len(raw_name), len(raw_link)) > 100:
        records = {b"path": raw_name} | ({b"linkpath": raw_link} if raw_link else {})
        short = tar_member(raw_name[:100], data, kind=kind, mode=mode, link=raw_link[:100], declared_size=declared_size)
        return pax_header(records) + short
    size = len(data) if declared_size is None else declared_size
    header = struct.pack(
        "100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x",
        raw_name,
        b"%07o\0" % mode,
        b"%07o\0" % 0,
        b"%07o\0" % 0,
        _number(size),
        b"%011o\0" % 1_700_000_000,
        b" " * 8,
        kind,
        raw_link,
        b"ustar\x0000",
        b"builder",
        b"builder",
        b"%07o\0" % 0,
        b"%07o\0" % 0,
        b"",
    )
    checksum = sum(header) + checksum_error
    header = header[:148] + b"%06o\0 " % checksum + header[156:]
    return header + data + bytes(-len(data) % BLOCK)


def pax_header(records: dict[bytes, bytes], *, declared_size: int | None = None, kind: bytes = PAX) -> bytes:
    """A pax extended header for the member that follows, or with kind `g` for all that follow."""
    body = b"".join(_pax_record(key, value) for key, value in records.items())
    return tar_member("PaxHeaders/member", body, kind=kind, declared_size=declared_size)


def tar(*members: bytes) -> bytes:
    """A whole tar of `members`, with its end marker."""
    return b"".join(members) + END


def _raw(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _number(value: int) -> bytes:
    if 0 <= value < 8**11:
        return b"%011o\0" % value
    return (b"\x80" if value >= 0 else b"\xff") + value.to_bytes(11, "big", signed=True)  # GNU base-256


def _pax_record(key: bytes, value: bytes) -> bytes:
    length = len(key) + len(value) + 3  # a space, an equals sign and a newline
    total = length + len(str(length))
    total = length + len(str(total))
    return b"%d %s=%s\n" % (total, key, value)


GOOD = tar_member("ok.txt", b"fine\n")


def hostile_tars() -> dict[str, bytes]:
    """Uncompressed tars that must be refused by whoever reads them, by the name of the attack."""
    escape = tar_member("evil", b"x")
    directory = tar_member("d", kind=DIRECTORY, mode=0o755)
    return {
        "parent_escape": tar(GOOD, tar_member("../evil", b"x")),
        "parent_escape_deep": tar(GOOD, tar_member("a/../../evil", b"x")),
        "parent_part": tar(GOOD, tar_member("a/../evil", b"x")),
        "parent_escape_directory": tar(GOOD, tar_member("../evil", kind=DIRECTORY, mode=0o755)),
        "absolute": tar(GOOD, tar_member("/tmp/evil", b"x")),  # noqa: S108 (a name inside an archive)
        "absolute_two_slashes": tar(GOOD, tar_member("//evil", b"x")),
        "backslash_escape": tar(GOOD, tar_member("..\\..\\evil", b"x")),
        "drive_letter": tar(GOOD, tar_member("C:/evil", b"x")),
        "nul_in_name": tar(GOOD, pax_header({b"path": b"good\0evil"}) + escape),
        "not_utf8": tar(GOOD, tar_member(b"caf\xe9", b"x")),
        "component_too_long": tar(GOOD, tar_member("n" * 256, b"x")),
        "path_too_long": tar(GOOD, tar_member("/".join(["n" * 200] * 21), b"x")),
        "symlink_absolute": tar(GOOD, tar_member("link", kind=SYMLINK, link="/etc/passwd")),
        "symlink_escape": tar(GOOD, tar_member("d/link", kind=SYMLINK, link="../../evil")),
        # d/up is the root itself; a reader that reads "d/up/.." as text takes it for "d", the kernel goes above.
        "symlink_escape_through_symlink": tar(
            GOOD,
            directory,
            tar_member("d/up", kind=SYMLINK, link=".."),
            tar_member("link", kind=SYMLINK, link="d/up/../evil"),
        ),
        "entry_below_symlink": tar(
            GOOD, directory, tar_member("link", kind=SYMLINK, link="d"), tar_member("link/evil", b"x")
        ),
        "entry_below_later_symlink": tar(
            GOOD, tar_member("link/evil", b"x"), tar_member("link", kind=SYMLINK, link="d"), directory
        ),
        "hard_link_outside": tar(GOOD, tar_member("link", kind=HARD_LINK, link="../../etc/passwd")),
        "hard_link_absolute": tar(GOOD, tar_member("link", kind=HARD_LINK, link="/etc/passwd")),
        "hard_link_missing": tar(GOOD, tar_member("link", kind=HARD_LINK, link="nowhere")),
        "hard_link_to_directory": tar(GOOD, directory, tar_member("link", kind=HARD_LINK, link="d")),
        "duplicate_file": tar(GOOD, tar_member("ok.txt", b"evil")),
        "duplicate_by_dot": tar(GOOD, tar_member("./ok.txt", b"evil")),
        "symlink_over_file": tar(GOOD, tar_member("ok.txt", kind=SYMLINK, link="d")),
        "file_over_symlink": tar(GOOD, tar_member("link", kind=SYMLINK, link="ok.txt"), tar_member("link", b"evil")),
        "entry_below_file": tar(GOOD, tar_member("ok.txt/evil", b"x")),
        "directory_over_file": tar(GOOD, tar_member("ok.txt", kind=DIRECTORY, mode=0o755)),
        "character_device": tar(GOOD, tar_member("null", kind=CHARACTER)),
        "block_device": tar(GOOD, tar_member("sda", kind=BLOCK_DEVICE)),
        "fifo": tar(GOOD, tar_member("pipe", kind=FIFO)),
        "setuid": tar(GOOD, tar_member("su", b"x", mode=0o4755)),
        "setgid": tar(GOOD, tar_member("sg", b"x", mode=0o2755)),
        "sticky_file": tar(GOOD, tar_member("sticky", b"x", mode=0o1755)),
        "size_negative": tar(GOOD, tar_member("evil", declared_size=-BLOCK)),
        "size_beyond_end": tar(GOOD, tar_member("evil", b"x", declared_size=1 << 20)),
        "size_huge": tar(GOOD, tar_member("evil", b"x", declared_size=1 << 62)),
        "size_huge_by_pax": tar(GOOD, pax_header({b"size": b"%d" % (1 << 62)}) + escape),
        "size_negative_by_pax": tar(GOOD, pax_header({b"size": b"-512"}) + escape),
        "cut_in_data": (GOOD + tar_member("evil", bytes(4 * BLOCK)))[: -3 * BLOCK],
        "cut_in_first_header": GOOD[:200],
        "garbage": zlib.compress(b"not a tar at all") * 64,
        "nothing": b"",
    }


def malformed_tars() -> dict[str, bytes]:
    """Uncompressed tars that are cut, damaged, or read differently by different tools."""
    return {
        "no_member": END,
        "only_the_root": tar(tar_member("./", kind=DIRECTORY, mode=0o755)),
        "empty_name": tar(GOOD, tar_member("", b"x")),
        "dot_part": tar(GOOD, tar_member("a/./b", b"x")),
        "empty_part": tar(GOOD, tar_member("a//b", b"x")),
        "symlink_without_target": tar(GOOD, tar_member("link", kind=SYMLINK)),
        "symlink_with_data": tar(GOOD, tar_member("link", bytes(BLOCK), kind=SYMLINK, link="ok.txt")),
        "hard_link_with_data": tar(GOOD, tar_member("link", bytes(BLOCK), kind=HARD_LINK, link="ok.txt")),
        "hard_link_to_later_file": tar(tar_member("link", kind=HARD_LINK, link="ok.txt"), GOOD),
        "directory_with_data": tar(GOOD, tar_member("d", bytes(BLOCK), kind=DIRECTORY, mode=0o755)),
        "unknown_kind": tar(GOOD, tar_member("evil", b"x", kind=b"Z")),
        "sparse": tar(GOOD, tar_member("holes", bytes(BLOCK), kind=GNU_SPARSE)),
        "second_header_damaged": tar(GOOD, tar_member("evil", b"x", checksum_error=1)),
        "cut_in_second_header": GOOD + tar_member("evil")[:100],
        "cut_in_padding": (GOOD + tar_member("evil", b"xyz"))[:-200],
        "no_end_marker": GOOD,
        "members_after_the_end": tar(GOOD) + tar(tar_member("hidden", b"x")),
        "pax_header_huge": tar(GOOD, pax_header({b"comment": b"x"}, declared_size=1 << 40), tar_member("a", b"x")),
        "pax_header_large": tar(GOOD, pax_header({b"comment": b"x" * (3 << 20)}), tar_member("a", b"x")),
        "pax_header_negative": tar(GOOD, pax_header({b"comment": b"x"}, declared_size=-1024), tar_member("a", b"x")),
        "long_name_negative": tar(GOOD, tar_member("L", kind=GNU_LONG_NAME, declared_size=-512), tar_member("a")),
    }
