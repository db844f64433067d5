# SPDX-License-Identifier: Apache-2.0
"""The one tar that a tree of entries has: the same bytes on every machine and with every version of Python.

POSIX pax interchange format, written here because tarfile's headers have changed between releases. Every entry has
one ustar header with mtime 0, owner 0:0 without names, mode 0644 or 0755 (links 0777); names of directories end in a
slash. A pax header stands before it only for what ustar cannot say: a path or target that is not ASCII or longer than
100 bytes, a size of 8 GiB or more. The end is two zero blocks.
"""

from collections.abc import Iterator, Sequence

from seeds.adapters.sources.entries import Entry, EntryKind
from seeds.adapters.sources.refusals import of_member
from signing.errors import BadInput

BLOCK_BYTES = 512
_END = bytes(2 * BLOCK_BYTES)
_NAME_BYTES = 100
_LARGEST_SIZE = 8**11 - 1
_TYPES = {EntryKind.FILE: b"0", EntryKind.SYMLINK: b"2", EntryKind.DIRECTORY: b"5"}
_PAX_NAME, _PAX_TYPE = b"././@PaxHeader", b"x"


def tar_size(entries: Sequence[Entry]) -> int:
    """How many bytes `tar_bytes` will yield."""
    return len(_END) + sum(len(_headers(entry)) + _padded(entry.size) for entry in entries)


def tar_bytes(entries: Sequence[Entry], source: str) -> Iterator[bytes]:
    """The tar of `entries`, which are in payload order, in pieces. Raises BadInput if one is not of its size."""
    for entry in entries:
        yield _headers(entry)
        left = entry.size
        for chunk in entry.read():
            left -= len(chunk)
            if left < 0:
                raise _wrong_size(entry, source, "more")
            yield chunk
        if left:
            raise _wrong_size(entry, source, "fewer")
        yield bytes(-entry.size % BLOCK_BYTES)
    yield _END


def _wrong_size(entry: Entry, source: str, relation: str) -> BadInput:
    where = of_member(source, entry.path)
    return BadInput(where, f"has {relation} bytes than the {entry.size} that it declares", "fetch or pack it again")


def _padded(size: int) -> int:
    return size + -size % BLOCK_BYTES


def _headers(entry: Entry) -> bytes:
    name = entry.path + "/" * (entry.kind is EntryKind.DIRECTORY)
    extended = b"".join(
        (
            _extended_text(b"linkpath", entry.target),
            _extended_text(b"path", name),
            _record(b"size", b"%d" % entry.size) if entry.size > _LARGEST_SIZE else b"",
        )
    )
    size = 0 if entry.size > _LARGEST_SIZE else entry.size
    header = _ustar(_ascii(name), _TYPES[entry.kind], _mode(entry), size, _ascii(entry.target))
    if not extended:
        return header
    return _ustar(_PAX_NAME, _PAX_TYPE, 0o644, len(extended)) + extended + bytes(-len(extended) % BLOCK_BYTES) + header


def _mode(entry: Entry) -> int:
    if entry.kind is EntryKind.SYMLINK:
        return 0o777
    return 0o755 if entry.executable or entry.kind is EntryKind.DIRECTORY else 0o644


def _ascii(text: str) -> bytes:
    return text.encode("ascii", errors="replace")[:_NAME_BYTES]


def _extended_text(key: bytes, text: str) -> bytes:
    raw = text.encode()
    return _record(key, raw) if len(raw) > _NAME_BYTES or not raw.isascii() else b""


def _record(key: bytes, value: bytes) -> bytes:
    # "<length> <key>=<value>\n", where the length counts its own digits.
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _ustar(name: bytes, kind: bytes, mode: int, size: int, target: bytes = b"") -> bytes:
    before = b"".join(
        (
            name.ljust(_NAME_BYTES, b"\0"),
            b"%07o\0" % mode,
            b"0000000\0" * 2,  # uid, gid
            b"%011o\0" % size,
            b"00000000000\0",  # mtime
        )
    )
    after = b"".join(
        (
            kind,
            target.ljust(_NAME_BYTES, b"\0"),
            b"ustar\x0000",
            bytes(2 * 32),  # names of user and group
            b"0000000\0" * 2,  # device numbers
            bytes(155 + 12),  # prefix, and padding up to a block
        )
    )
    checksum = sum(before) + 8 * ord(" ") + sum(after)
    return before + b"%06o\0 " % checksum + after
