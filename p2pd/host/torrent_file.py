# SPDX-License-Identifier: Apache-2.0
"""Torrent files as this project makes them, and no others: BitTorrent v2, private, one file, one segment's authority.

A torrent is read strictly: a key too many is refused as much as one too few, so that none brings trackers, web seeds
or paths along. Piece roots are those of BEP 52: merkle roots of SHA-256 over blocks of 16 KiB.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import libtorrent as lt
from cryptography import x509

from signing.bounds import MAX_PAYLOAD_BYTES, check_name
from signing.errors import BadInput
from signing.reasons import Reason

BLOCK_BYTES = 16_384  # BEP 52
MAX_PIECES = 16_384  # bounds a torrent file to some 512 KiB, and the bit fields that peers exchange to 2 KiB
MAX_PIECE_BYTES = MAX_PAYLOAD_BYTES // MAX_PIECES  # what the largest payload needs
MAX_CERTIFICATE_BYTES = 16_384
MAX_TORRENT_BYTES = 32 * MAX_PIECES + MAX_CERTIFICATE_BYTES + 1_024

_INFO_KEYS = {b"file tree", b"meta version", b"name", b"piece length", b"private", b"ssl-cert"}
_HASH_BYTES = 32


class TorrentMismatch(BadInput):
    """The torrent is not of our kind, or not the one that was expected."""

    reason = Reason.TORRENT_MISMATCH


@dataclass(frozen=True, kw_only=True)
class TorrentFacts:
    """What a torrent file says, checked for consistency in itself; it proves nothing about who made it."""

    info_hash: str  # v2: SHA-256 of the info dictionary, hex
    name: str  # of its one file: the segment
    size: int  # of the payload, in bytes
    piece_bytes: int
    ca_pem: bytes  # the authority whose certificates peers must show
    piece_roots: tuple[bytes, ...]

    @property
    def piece_count(self) -> int:
        """How many pieces the payload has."""
        return len(self.piece_roots)

    def piece_size(self, index: int) -> int:
        """Bytes of piece `index`; the last one may be short. Raises IndexError."""
        if not 0 <= index < self.piece_count:
            raise IndexError(f"piece {index} of {self.piece_count}")
        return min(self.piece_bytes, self.size - index * self.piece_bytes)

    def piece_matches(self, index: int, data: bytes) -> bool:
        """Whether `data` is piece `index`. Raises IndexError."""
        if len(data) != self.piece_size(index):
            return False
        blocks = [hashlib.sha256(data[at : at + BLOCK_BYTES]).digest() for at in range(0, len(data), BLOCK_BYTES)]
        # A payload of one piece has a tree no wider than its blocks; otherwise every piece has a full one.
        width = self.piece_bytes // BLOCK_BYTES if self.piece_count > 1 else _power_of_two(len(blocks))
        return _merkle_root(blocks, width=width, padding=bytes(_HASH_BYTES)) == self.piece_roots[index]


def read_torrent(
    data: bytes, *, where: str, name: str | None = None, size: int | None = None, info_hash: str | None = None
) -> TorrentFacts:
    """Read a torrent file; `name`, `size` and `info_hash` are what it must say, where given.

    Raises BadInput that names `where`: the bytes are too many, truncated, garbage, or another torrent.
    """
    if len(data) > MAX_TORRENT_BYTES:
        raise BadInput(where, f"is {len(data)} bytes, a torrent has at most {MAX_TORRENT_BYTES}")
    try:
        tree = lt.bdecode(data)
        parsed = lt.load_torrent_buffer(data)
    except RuntimeError as problem:
        raise BadInput(where, f"is not a torrent: {problem}", "fetch it again") from None
    if lt.bencode(tree) != data:
        raise BadInput(where, "is not in canonical bencoding", "make it with `p2pctl patch build`")
    if parsed.ti is None:
        raise BadInput(where, "has no info dictionary")
    facts = _read_tree(
        _keys(tree, where, "torrent", {b"info", b"piece layers"}), str(parsed.ti.info_hashes().v2), where
    )
    _expect(where, "name", facts.name, name)
    _expect(where, "size", facts.size, size)
    _expect(where, "info-hash", facts.info_hash, info_hash)
    return facts


def _read_tree(torrent: Mapping[bytes, Any], info_hash: str, where: str) -> TorrentFacts:
    info = _keys(torrent[b"info"], where, "info", _INFO_KEYS)
    if info[b"meta version"] != 2 or info[b"private"] != 1:
        raise TorrentMismatch(where, "must be a private torrent of version 2")
    name = _text(info[b"name"], where)
    attributes = _one_file(info[b"file tree"], name, where)
    size, piece_bytes = attributes[b"length"], info[b"piece length"]
    if not isinstance(size, int) or not 1 <= size <= MAX_PAYLOAD_BYTES:
        raise TorrentMismatch(where, f"names a payload of {size!r} bytes, must be 1 to {MAX_PAYLOAD_BYTES}")
    if not isinstance(piece_bytes, int) or not is_piece_size(piece_bytes):
        raise TorrentMismatch(
            where, f"has pieces of {piece_bytes!r} bytes, must be a power of two from 16 KiB to 4 MiB"
        )
    if size > MAX_PIECES * piece_bytes:
        raise TorrentMismatch(where, f"has more than {MAX_PIECES} pieces")
    return TorrentFacts(
        info_hash=info_hash,
        name=name,
        size=size,
        piece_bytes=piece_bytes,
        ca_pem=_certificate(info[b"ssl-cert"], where),
        piece_roots=_piece_roots(torrent[b"piece layers"], attributes[b"pieces root"], size, piece_bytes, where),
    )


def is_piece_size(value: int) -> bool:
    """Whether pieces may have this many bytes: a power of two from one block to MAX_PIECE_BYTES."""
    return BLOCK_BYTES <= value <= MAX_PIECE_BYTES and _power_of_two(value) == value


def _one_file(tree: object, name: str, where: str) -> Mapping[bytes, Any]:
    files = _keys(tree, where, "file tree", {name.encode()})
    entry = _keys(files[name.encode()], where, f"file {name!r}", {b""})
    return _keys(entry[b""], where, f"file {name!r}", {b"length", b"pieces root"})


def _piece_roots(layers: object, root: object, size: int, piece_bytes: int, where: str) -> tuple[bytes, ...]:
    if not isinstance(root, bytes) or len(root) != _HASH_BYTES:
        raise TorrentMismatch(where, "has a pieces root that is no SHA-256")
    count = -(-size // piece_bytes)
    if count == 1:
        _keys(layers, where, "piece layers", set())
        return (root,)
    layer = _keys(layers, where, "piece layers", {root})[root]
    if not isinstance(layer, bytes) or len(layer) != _HASH_BYTES * count:
        raise TorrentMismatch(where, f"does not have one hash for each of its {count} pieces")
    roots = [layer[at : at + _HASH_BYTES] for at in range(0, len(layer), _HASH_BYTES)]
    padding = _merkle_root([], width=piece_bytes // BLOCK_BYTES, padding=bytes(_HASH_BYTES))
    if _merkle_root(roots, width=_power_of_two(count), padding=padding) != root:
        raise TorrentMismatch(where, "has piece hashes that do not belong to its pieces root")
    return tuple(roots)


def _certificate(value: object, where: str) -> bytes:
    if not isinstance(value, bytes) or len(value) > MAX_CERTIFICATE_BYTES:
        raise TorrentMismatch(where, f"has a certificate that is no text of at most {MAX_CERTIFICATE_BYTES} bytes")
    try:
        certificates = x509.load_pem_x509_certificates(value)
    except ValueError as problem:
        raise TorrentMismatch(where, f"has a certificate that cannot be read: {problem}") from None
    if len(certificates) != 1:
        raise TorrentMismatch(where, f"has {len(certificates)} certificates, must have one segment's authority")
    return value


def _text(value: object, where: str) -> str:
    if not isinstance(value, bytes):
        raise TorrentMismatch(where, "has a name that is no text")
    try:
        name = value.decode("ascii")
        check_name("name", name)
    except ValueError as problem:
        raise TorrentMismatch(where, f"has a name that is no segment's: {problem}") from None
    return name


def _keys(value: object, where: str, part: str, keys: set[bytes]) -> Mapping[bytes, Any]:
    if not isinstance(value, dict):
        raise TorrentMismatch(where, f"{part} is no dictionary")
    for key in value.keys() ^ keys:
        problem = "lacks" if key in keys else "has the unexpected key"
        raise TorrentMismatch(
            where, f"{part} {problem} {key[:64]!r}", "only private v2 SSL torrents of one file travel"
        )
    return value


def _expect(where: str, what: str, actual: object, expected: object) -> None:
    if expected is not None and actual != expected:
        raise TorrentMismatch(where, f"has the {what} {actual!r}, expected {expected!r}")


def _merkle_root(leaves: list[bytes], *, width: int, padding: bytes) -> bytes:
    level = leaves + [padding] * (width - len(leaves))
    while len(level) > 1:
        level = [hashlib.sha256(level[at] + level[at + 1]).digest() for at in range(0, len(level), 2)]
    return level[0]


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()
