# SPDX-License-Identifier: Apache-2.0
"""The sockets in the wall: what services ask of adapters, and the values that cross over.

Services depend on these protocols only, so that scenario tests can plug fakes into the same agent. Every protocol
has one real adapter and one fake in `tests/fakes`, and both pass the same tests in `tests/contracts`.
"""

import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal, Protocol

import trio

from p2pd.host.supervise import ServiceFailure
from p2pd.piece_set import PieceSet
from signing.reasons import Reason


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


TAG_BYTES = 8
MAX_TAGS = 124  # what fits one announcement of less than 1,200 bytes, so that no link has to fragment it


@dataclass(frozen=True, kw_only=True)
class Announcement:
    """What this endpoint says about itself on the LAN. At most MAX_TAGS tags: whoever makes them chooses which."""

    torrent_port: int
    mirror_port: int
    tags: frozenset[bytes]

    def __post_init__(self) -> None:
        if not 1 <= self.torrent_port <= 65535 or not 0 <= self.mirror_port <= 65535:
            raise ValueError(f"ports {self.torrent_port} and {self.mirror_port} must be between 1 (0: none) and 65535")
        if len(self.tags) > MAX_TAGS or any(len(tag) != TAG_BYTES for tag in self.tags):
            raise ValueError(
                f"an announcement holds at most {MAX_TAGS} tags of {TAG_BYTES} bytes, not {len(self.tags)}"
            )


class Lan(Protocol):
    """Multicast DNS on the configured interfaces, and on no others."""

    async def listen_on(self, hosts: Sequence[str]) -> None:
        """Speak and hear at these numeric addresses, and nowhere else; those that stay notice nothing.

        What was announced is announced at new ones too. Whoever was heard at a former one only departs. Raises
        ServiceFailure when an address cannot be used now: the others are, and asking again tries it again.
        """

    async def announce(self, announcement: Announcement, *, renew: bool = False) -> None:
        """Replace what is announced; others see it well within a second.

        It keeps its random instance name, so that others see an update. With `renew` it gets a new one, and the old
        one departs: for when the tags' epoch turns, since a name that stayed would link new tags to old ones.
        """

    def doubt(self, instance: str) -> None:
        """There are signs that this one is gone: ask for it. It departs within seconds unless it answers."""

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
    peers: tuple[Endpoint, ...] = ()  # to be dialled at once; `Transfer.connect` may take a second


@dataclass(frozen=True, kw_only=True)
class TransferProgress:
    """One torrent at one moment."""

    piece_count: int
    piece_bytes: int
    total_bytes: int
    have: PieceSet
    peers_have: PieceSet  # at least one connected peer has the piece
    spread: PieceSet  # at least half of the connected peers have it
    peers: tuple[bytes, ...]  # `peer_id_of` the devices that connected peers claim to be, inside the mutual TLS session
    on_disk: PieceSet  # of `have`, those that are known to be written
    bytes_lan: int  # payload bytes received from peers since the torrent was added
    is_complete: bool  # every piece is verified and flushed to disk


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """One connected peer of a torrent, as of the last look at it."""

    peer_id: bytes  # `peer_id_of` the device that it claims to be, inside the mutual TLS session
    have: PieceSet
    is_complete: bool
    latency: float | None  # seconds for the shortest round trip to it lately, by the kernel; None: not measured here
    bytes_in: int  # payload bytes of this connection so far
    bytes_out: int


def peer_id_of(device: str) -> bytes:
    """The peer id under which `device` introduces itself: what is left of its name on the wire, inside mutual TLS."""
    return hashlib.sha256(device.encode()).digest()[:20]


class TransferFailed(ServiceFailure):
    """The torrent cannot go on, mostly because of its files; leave the transfer and begin again."""


class PayloadStoreFull(TransferFailed):
    """There is no room for the payload on disk."""

    reason = Reason.DISK_FULL


class Transfer(Protocol):
    """One torrent in the swarm."""

    def progress(self) -> TransferProgress:
        """What is there now; cheap, and as fresh as the last `changed`."""

    async def changed(self) -> None:
        """Return when there is progress since the last return: one task may wait here. Raises TransferFailed."""

    def connect(self, endpoint: Endpoint) -> None:
        """Dial a peer, for some seconds, unless it is connected; and again whenever the connection breaks."""

    def neighbours(self) -> Sequence[Neighbour]:
        """The connected peers, each once: as of the last look, as fresh as `progress`, or a few seconds old."""

    async def neighbours_changed(self) -> None:
        """Return when a peer came or went since the last return: one task may wait here."""

    def corruptions(self) -> Mapping[bytes, int]:
        """How often each peer, by id, was caught sending data with a wrong hash, and cut off for it."""

    def ignore(self, peers: Collection[bytes]) -> None:
        """From now on, what these peers (by id) say that they have does not count in `peers_have`; all others count."""

    def limit(self, *, upload: int | None, download: int | None) -> None:
        """Bytes per second to and from peers from now on, besides what holds for all transfers; None: no limit."""

    async def add_piece(self, index: int, data: bytes) -> bool:
        """Hand over a whole piece from elsewhere; False if its hash is wrong. Raises TransferFailed.

        Returns once the piece counts as had; it may be handed over again, or come from a peer meanwhile.
        """


class Swarm(Protocol):
    """A BitTorrent session that speaks nothing but mutual TLS, on the configured interfaces."""

    @property
    def port(self) -> int:
        """The TLS port that the session listens on; 0 before it listens anywhere, if it was to choose."""

    async def listen_on(self, hosts: Sequence[str]) -> None:
        """Listen at these numeric addresses, and dial from nowhere else; without any, do neither. Transfers go on.

        Connections from addresses that are left end at once, and peers out of reach from the others are forgotten:
        whoever is there still is to be dialled again. Raises BadInput for a port in use, ServiceFailure when an
        address cannot be used now; then the others are listened on, and asking again tries it again.
        """

    def transfer(self, spec: TorrentSpec) -> AbstractAsyncContextManager[Transfer]:
        """Carry `spec` while the block lasts. Pieces that lie on disk already are checked, and kept, before it begins.

        Raises BadInput when the torrent is not the one that `spec` describes, and TransferFailed.
        """

    def use_certificate(self, certificate_pem: bytes, key_pem: bytes) -> None:
        """Show a renewed certificate in all handshakes from now on. Raises BadInput when the two do not match."""

    def limit(self, *, upload: int | None, download: int | None) -> None:
        """Bytes per second from now on, of all transfers together; None: as many as there are.

        With an upload of 0 peers get nothing any more; with a download of 0 the session is cut off from all peers
        until another limit.
        """


@dataclass(frozen=True, kw_only=True)
class WindowFacts:
    """What the kernel measured on one connection; seconds and bytes. None: nothing yet."""

    least: float | None  # the shortest round trip of what we sent; mostly that of the handshake
    round_trip: float | None  # … of what we receive now, with the queues that it meets
    received: int  # bytes since the connection was opened
    is_loopback: bool = False  # it stays on this host: there is no link, and nobody on it


class ReceiveWindow(Protocol):
    """How much one connection may have in flight towards us, and what is known of it."""

    def look(self) -> WindowFacts | None:
        """What the kernel knows; None when it cannot be asked."""

    def limit(self, window: int) -> None:
        """Let at most `window` bytes be in flight."""

    def squeeze(self, size: int) -> None:
        """Keep at most about `size` bytes unread, so that slow reading slows the sender."""

    def release(self) -> None:
        """Undo `squeeze`."""


class Pacing(Protocol):
    """Holds downloads over the WAN to what people and budgets leave."""

    def paced(self, window: ReceiveWindow) -> AbstractContextManager[Callable[[int], Awaitable[None]]]:
        """Steer one download while the block lasts. To be awaited with the size of each chunk, before the next."""


class OriginFailure(Exception):
    """The origin did not bring what was asked: `reason` says whether it is away or answered wrongly."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Origin(Protocol):
    """A static HTTPS server that holds payloads under their SHA-256."""

    @property
    def source(self) -> Literal["origin", "web"]:
        """How its bytes are counted: the coordinator's own origin, or another static mirror."""

    def ranges(self, sha256: str, start: int, length: int) -> AsyncGenerator[bytes, None]:
        """The bytes `start` … `start + length` of a payload, never more. Raises OriginFailure."""


class InstallerFailure(Exception):
    """p2pd-install refused, or did not answer (installer_unreachable: then ask `status` what became of it)."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class InstallPhase(StrEnum):
    """Where p2pd-install stands with a product, by its journal: nobody need be working on it.

    Only `status` tells a daemon that comes back what it left: a release on probation stays there until somebody commits
    it, rolls it back, or installs a newer one over it. Installing and rolling back with no request under way are work
    that a fault cut off; the next request for the product undoes or resumes it first.
    """

    IDLE = "idle"  # `active` is committed
    INSTALLING = "installing"  # `pending` is on its way in; `active` is what it was, perhaps an older candidate
    PROBATION = "probation"  # `active` is `pending`
    ROLLING_BACK = "rolling_back"  # `active` is `pending`, on its way out


@dataclass(frozen=True, kw_only=True)
class InstalledRelease:
    """A release that p2pd-install has verified and keeps on disk."""

    version: str
    release_counter: int
    manifest_sha256: str
    installed_at: int  # Unix seconds


@dataclass(frozen=True, kw_only=True)
class InstalledProduct:
    """One product as p2pd-install's journal has it."""

    active: InstalledRelease | None  # in use: from the start of its probation, until it is rolled back
    previous: InstalledRelease | None  # what a rollback of `active` restores, unless that is recalled
    pending: InstalledRelease | None  # not committed yet: on its way in, or (being `active` too) on probation
    phase: InstallPhase
    slot: Path | None  # where `active` is unpacked


@dataclass(frozen=True, kw_only=True)
class Installation:
    """The answer to a successful install: where the release is, and what a rollback of it restores."""

    slot: Path
    previous: InstalledRelease | None


class Installer(Protocol):
    """p2pd-install. It verifies everything itself; all methods raise InstallerFailure.

    Each may be repeated when its answer was lost: what was done already is answered as if it were done now, and the
    repeat of a request that is under way waits for it and gets its answer. Other requests for the product wait in line;
    `busy` means that too many do. `busy`, `disk_full` and `storage_failed` (of p2pd-install's disk) and
    `payload_missing` (no file at `transport`) say nothing of the release: asking again may help.
    """

    async def status(self, product: str | None = None) -> Mapping[str, InstalledProduct]:
        """Every product with a release on disk, by name; or of these `product` alone."""

    async def install(self, *, product: str, version: str, mirror: Path, transport: Path) -> Installation:
        """Bring a release into use, on probation, verified by the signed files in `mirror`; both paths absolute.

        A release on probation is abandoned for one with a higher counter, whose rollback restores what was committed
        before both. When the new one is refused, the one on probation stays there.
        """

    async def commit(self, *, product: str, manifest_sha256: str) -> None:
        """The release has proved itself. Refused (not_on_probation) when it is not in use."""

    async def rollback(self, *, product: str, manifest_sha256: str, mirror: Path) -> InstalledRelease | None:
        """Leave the release for the one before it, verified again; returns what is in use then.

        With nothing before it, nothing is in use. A release that is not in use is left alone. The newest recalls in
        `mirror` (absolute) count, if it can be verified. In the place of a recalled release comes the one before that,
        if it is still there and may be gone back to; else the answer is a refusal (recalled) and all stays as it was:
        the phase too, so that a newer release can be installed.
        """
