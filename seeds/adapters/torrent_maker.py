# SPDX-License-Identifier: Apache-2.0
"""Makes the torrent that carries a payload within one segment: the same input gives the same torrent anywhere."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

import libtorrent as lt

from p2pd.host.torrent_file import MAX_PIECES, is_piece_size, read_torrent
from signing.bounds import MAX_PAYLOAD_BYTES, check_name
from signing.errors import BadInput

USUAL_PIECE_BYTES = 262_144  # measured: a swarm on a LAN ends sooner with pieces of 256 KiB than of 1 MiB
LEAST_PIECE_BYTES = 32_768  # two blocks: less would only cost
USUAL_PIECES = 512  # of fewer, one half-way at each ambassador would be too much of the payload


class MadeTorrent(NamedTuple):
    """A torrent file and what the manifest says of it."""

    torrent: bytes
    info_hash: str  # v2, hex
    piece_bytes: int


def piece_bytes_for(size: int) -> int:
    """256 KiB; of small payloads less, for USUAL_PIECES pieces; of large ones more, for at most MAX_PIECES."""
    piece_bytes = USUAL_PIECE_BYTES
    while size <= piece_bytes * USUAL_PIECES // 2 and piece_bytes > LEAST_PIECE_BYTES:
        piece_bytes //= 2
    while size > piece_bytes * MAX_PIECES:
        piece_bytes *= 2
    return piece_bytes


def make_torrent(
    payload: Path,
    *,
    name: str,
    segment_ca_pem: bytes,
    piece_bytes: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> MadeTorrent:
    """Hash `payload` and return its torrent for the segment `name`; synchronous, for a worker thread.

    The file may lie under any name: within the torrent it is called like the segment, which is what libtorrent
    compares peers' certificates with. `on_progress` is told pieces done and pieces in all. Raises BadInput.
    """
    where = str(payload)
    try:
        check_name("segment", name)
        root_certificate = segment_ca_pem.decode("ascii")
    except ValueError as problem:
        raise BadInput(f"segment {name!r}", f"cannot carry a torrent: {problem}") from None
    try:
        size = payload.stat().st_size
    except OSError as problem:
        raise BadInput(where, f"cannot be read: {problem.strerror}") from None
    if not 1 <= size <= MAX_PAYLOAD_BYTES:
        raise BadInput(where, f"is {size} bytes, a payload has 1 to {MAX_PAYLOAD_BYTES}")
    piece_bytes = piece_bytes or piece_bytes_for(size)
    if not is_piece_size(piece_bytes) or size > piece_bytes * MAX_PIECES:
        raise BadInput(where, f"cannot be cut into pieces of {piece_bytes} bytes", f"choose {piece_bytes_for(size)}")
    maker = lt.create_torrent([lt.create_file_entry(name, size)], piece_bytes, lt.create_torrent.v2_only)
    maker.set_priv(True)
    maker.set_root_cert(root_certificate)
    count = maker.num_pieces()
    # libtorrent looks for the file under its name in the torrent; a link spares copying it.
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / name).symlink_to(payload.resolve())
        try:
            lt.set_piece_hashes(maker, directory, lambda index: on_progress(index + 1, count) if on_progress else None)
        except RuntimeError as problem:
            raise BadInput(where, f"cannot be read: {problem}") from None
    made = cast("dict[bytes, Any]", maker.generate())
    # Nothing but what the info-hash and the pieces need: a creation date would make every torrent another one.
    torrent = lt.bencode({b"info": made[b"info"], b"piece layers": made[b"piece layers"]})
    facts = read_torrent(torrent, where=f"torrent of {where} for {name}", name=name, size=size)
    return MadeTorrent(torrent, facts.info_hash, facts.piece_bytes)
