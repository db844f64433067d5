# SPDX-License-Identifier: Apache-2.0
"""Who is connected to a torrent, and what they have: a look at libtorrent's peers, from a worker thread."""

from collections.abc import Collection, Container
from typing import NamedTuple

import libtorrent as lt

from p2pd.adapters.tcp_links import TcpLink, tend
from p2pd.piece_set import NO_PIECES, PieceSet
from p2pd.ports import Neighbour

_BEFORE_HANDSHAKE = lt.peer_info.connecting | lt.peer_info.handshake


class Peers(NamedTuple):
    """The connections at one moment, and the peers behind those that have shaken hands."""

    connections: int
    ids: tuple[bytes, ...]  # each once, in order
    have: PieceSet  # at least one of them has these, of those who are not ignored
    spread: PieceSet  # at least half of them have these
    neighbours: tuple[Neighbour, ...] = ()  # in the order of `ids`
    is_shaking_hands: bool = False  # somebody else will be there in a moment


NOBODY = Peers(0, (), NO_PIECES, NO_PIECES)


def half_of(peers: Collection[bytes]) -> int:
    """How many have a piece that is spread among `peers`."""
    return max(1, (len(peers) + 1) // 2)


def look_at_peers(handle: lt.torrent_handle, ignored: Container[bytes]) -> Peers:
    """Wait for libtorrent's network thread to tell, and ask the kernel about the connections.

    Its asynchronous answer (peer_info_alert) cannot be read from Python in 2.1.1.
    """
    try:
        peers = handle.get_peer_info()
    except RuntimeError:  # the torrent was removed in the meantime
        return NOBODY
    known = [peer for peer in peers if not peer.flags & _BEFORE_HANDSHAKE]
    links = {TcpLink(peer.local_endpoint(), peer.ip): peer for peer in known}
    round_trips = tend(links.keys())
    found: dict[bytes, Neighbour] = {}
    have = NO_PIECES
    for link, peer in links.items():
        pieces = PieceSet.where(peer.pieces)
        peer_id = peer.pid.to_bytes()
        found[peer_id] = Neighbour(
            peer_id=peer_id,
            have=pieces,
            is_complete=bool(peer.flags & lt.peer_info.seed),
            latency=round_trips.get(link),
            bytes_in=peer.total_download,
            bytes_out=peer.total_upload,
        )
        if peer_id not in ignored:
            have |= pieces
    ids = tuple(sorted(found))
    spread = PieceSet.held_by(half_of(ids), (peer.have for peer in found.values()))
    return Peers(len(peers), ids, have, spread, tuple(found[peer_id] for peer_id in ids), len(known) < len(peers))
