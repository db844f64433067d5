# SPDX-License-Identifier: Apache-2.0
"""What tests of swarms begin with: a segment's authority, devices with certificates, and small payloads with torrents."""

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from p2pd.ports import TorrentSpec, TransferProgress
from seeds.adapters.torrent_maker import make_torrent
from signing.devices import DeviceKey, SegmentAuthority

PIECE_BYTES = 16_384


@dataclass(frozen=True, kw_only=True)
class Badge:
    """A device with its certificate, as PEM."""

    device: str
    certificate_pem: bytes
    key_pem: bytes


def create_authority(segment: str = "office") -> SegmentAuthority:
    """A new authority for `segment`."""
    return SegmentAuthority.create(segment, now=datetime.now(UTC))


def enrol(authority: SegmentAuthority, device: str, *, lifetime: timedelta = timedelta(hours=1)) -> Badge:
    """A certificate of `authority` for a new key of `device`."""
    key = DeviceKey.generate()
    certificate = authority.issue(key.csr(device), device=device, now=datetime.now(UTC), lifetime=lifetime)
    return Badge(device=device, certificate_pem=certificate, key_pem=key.to_pem())


@dataclass(frozen=True, kw_only=True)
class Payload:
    """Random bytes and their torrent."""

    segment: str
    data: bytes
    torrent: bytes
    info_hash: str

    @property
    def piece_count(self) -> int:
        """How many pieces it has."""
        return -(-len(self.data) // PIECE_BYTES)

    def piece(self, index: int) -> bytes:
        """The bytes of one piece."""
        return self.data[index * PIECE_BYTES : (index + 1) * PIECE_BYTES]

    def spec(self, directory: Path) -> TorrentSpec:
        """To carry it in `directory`."""
        return TorrentSpec(torrent=self.torrent, info_hash=self.info_hash, directory=directory, name=self.segment)

    def put(self, directory: Path) -> TorrentSpec:
        """To carry it in `directory`, where it lies already."""
        directory.mkdir(parents=True)
        (directory / self.segment).write_bytes(self.data)
        return self.spec(directory)


def make_payload(directory: Path, authority: SegmentAuthority, *, pieces: int = 12, seed: int = 1) -> Payload:
    """A payload of so many pieces, the last one short; the same `seed` gives the same bytes."""
    data = random.Random(seed).randbytes(pieces * PIECE_BYTES - 1_000)  # noqa: S311 (reproducible, not secret)
    source = directory / f"payload-{seed}"
    source.write_bytes(data)
    made = make_torrent(
        source, name=authority.segment, segment_ca_pem=authority.certificate_pem, piece_bytes=PIECE_BYTES
    )
    return Payload(segment=authority.segment, data=data, torrent=made.torrent, info_hash=made.info_hash)


def is_complete(progress: TransferProgress) -> bool:
    """For waiting until a transfer is over."""
    return progress.is_complete
