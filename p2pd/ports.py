# SPDX-License-Identifier: Apache-2.0
"""The sockets in the wall: what services ask of adapters, and the values that cross over.

Services depend on these protocols only, so that scenario tests can plug fakes into the same agent. Every protocol
has one real adapter and one fake in `tests/fakes`, and both pass the same tests in `tests/contracts`.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import trio


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where a peer can be dialled."""

    host: str  # numeric IPv4 or IPv6 address
    port: int


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """What one mDNS announcement says, before anybody has made sense of its tags.

    `instance` is the random name of the announcement; `endpoint` is where its torrents listen, `mirror_port` where it
    serves signed metadata (0: nowhere). `tags` mean something only to holders of the matching signed documents.
    """

    instance: str
    endpoint: Endpoint
    mirror_port: int
    tags: frozenset[bytes]


@dataclass(frozen=True, kw_only=True)
class Departure:
    """An announcement was taken back, or ran out."""

    instance: str


@dataclass(frozen=True, kw_only=True)
class Announcement:
    """What this endpoint says about itself on the LAN."""

    torrent_port: int
    mirror_port: int
    tags: frozenset[bytes]


class Lan(Protocol):
    """Multicast DNS on the configured interfaces, and on no others."""

    async def announce(self, announcement: Announcement) -> None:
        """Replace what is announced, under a new random instance name."""

    @property
    def sightings(self) -> trio.MemoryReceiveChannel[Sighting | Departure]:
        """Others' announcements as they come and go; our own are left out."""


@dataclass(frozen=True, kw_only=True)
class TorrentSpec:
    """All that a swarm needs to carry one verified torrent. The payload lands at `directory`/`name`."""

    torrent: bytes
    info_hash: str  # v2, hex, as the manifest names it
    directory: Path
    name: str  # the segment's name, which is also the name in the torrent


@dataclass(frozen=True, kw_only=True)
class TransferProgress:
    """One torrent at one moment. `have` and `peers_have` are bit fields by piece: one bool a piece."""

    piece_count: int
    piece_bytes: int
    total_bytes: int
    have: Sequence[bool]
    peers_have: Sequence[bool]  # at least one connected peer has the piece
    peers: tuple[str, ...]  # device names that connected peers claim, inside the mutual TLS session
    bytes_lan: int  # payload bytes received from peers since the torrent was added
    is_complete: bool  # every piece is verified and flushed to disk


class Transfer(Protocol):
    """One torrent in the swarm."""

    def progress(self) -> TransferProgress:
        """What is there now."""

    async def changed(self) -> None:
        """Return when progress may differ from what the last call of `progress` said."""

    def connect(self, endpoint: Endpoint) -> None:
        """Dial a peer; doing so again while connected changes nothing."""

    async def add_piece(self, index: int, data: bytes) -> bool:
        """Hand over a whole piece from elsewhere; False if its hash is wrong."""


class Swarm(Protocol):
    """A BitTorrent session that speaks nothing but mutual TLS, on the configured interfaces."""

    @property
    def port(self) -> int:
        """The TLS port that the session listens on."""

    def transfer(self, spec: TorrentSpec) -> AbstractAsyncContextManager[Transfer]:
        """Carry `spec` while the block lasts. Pieces that lie on disk already are checked and kept."""


class Origin(Protocol):
    """A static HTTPS server that holds payloads under their SHA-256."""

    def ranges(self, sha256: str, start: int, length: int) -> AsyncIterator[bytes]:
        """The bytes `start` … `start + length` of a payload. Raises OriginUnreachable or OriginRefused."""
