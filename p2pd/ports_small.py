# SPDX-License-Identifier: Apache-2.0
"""The sockets in the wall for small payloads: where they lie, and the peers that hand them on."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from p2pd.host.latest import Latest
from p2pd.ports import Endpoint
from signing.manifest import Content


class SmallShelf(Protocol):
    """Small payloads on disk, verified, and held out to the segment. What is awaited may raise StorageFailed."""

    @property
    def arrivals(self) -> Latest[int]:
        """Grows whenever something new can be read."""

    def holds(self, sha256: str) -> bool:
        """Whether it can be read."""

    def expect(self, sha256: str) -> None:
        """It is wanted and on its way: who asks for it may wait for it here."""

    def expects(self, sha256: str) -> bool:
        """Whether it is on its way, or has come."""

    async def put(self, payloads: Mapping[str, bytes]) -> None:
        """Keep verified bytes by their SHA-256. Raises PayloadStoreFull."""

    async def adopt(self, contents: Sequence[Content]) -> frozenset[str]:
        """Hold what lies on disk already and has the right bytes; the digests of that."""

    async def read(self, digests: Sequence[str], *, most_bytes: int) -> Mapping[str, bytes]:
        """Those of `digests` that are held, in order, of at most `most_bytes` together (but always one)."""

    def forget(self, sha256: str) -> None:
        """Neither hold it out nor expect it any more; the file stays."""


class PeerFailure(Exception):
    """A peer cannot be reached, breaks off, or answers what it may not. `is_hostile`: no honest peer would."""

    def __init__(self, message: str, *, is_hostile: bool = False) -> None:
        super().__init__(message)
        self.is_hostile = is_hostile


class PeerBusy(Exception):
    """A peer cannot wait with us for what we asked for: no place is free, or it does not expect that itself (yet).

    It says nothing about what the peer will have in a moment.
    """


class SmallPeers(Protocol):
    """Other endpoints' shelves, over mutual TLS within the segment."""

    async def ask(self, peer: Endpoint, wanted: Sequence[Content], *, wait_seconds: float) -> Mapping[str, bytes]:
        """What `peer` has of `wanted`, unverified but for its sizes; perhaps not all that it has, ask again.

        A peer that has nothing of it answers as soon as it has something, or after `wait_seconds` with nothing.
        At most MAX_WANTED at once. Raises PeerFailure, and PeerBusy unless `wait_seconds` is 0.
        """


MAX_WANTED = 512  # one request: 16 KiB of digests
