# SPDX-License-Identifier: Apache-2.0
"""What an endpoint tells its fleet on the LAN, and nobody else: eight-byte tags, new ones every epoch.

A tag is the head of HMAC-SHA256, keyed with something that only holders of the fleet's signed documents know, over
the epoch and the device. To anybody else, tags are random numbers that change every hour and differ by device even
for the same patch. Five kinds, by key and message (the epoch takes 8 bytes, a device name holds no NUL):

    presence   segment CA's SHA-256   epoch ‖ device                    which device this is
    state      segment CA's SHA-256   epoch ‖ device ‖ NUL ‖ version    which signed timestamp it has accepted
    aside      segment CA's SHA-256   epoch ‖ device ‖ NUL ‖ "aside"    it brings the site nothing from the origin now
    torrent    the info-hash          epoch ‖ device                    it is getting that payload
    whole      the info-hash          epoch ‖ device ‖ NUL ‖ "whole"    it has all of it

Tags are claims: whoever hears them can repeat them from elsewhere until their epoch is over. They say whom to dial;
mutual TLS says who answered.
"""

import hmac
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from p2pd.ports import MAX_TAGS, TAG_BYTES, Sighting

EPOCH_SECONDS = 3600


def epoch_of(unix: int) -> int:
    """The epoch that a moment belongs to."""
    return unix // EPOCH_SECONDS


def presence_tag(segment_ca_sha256: bytes, device: str, epoch: int) -> bytes:
    """Names the device to members of its segment."""
    return _tag(segment_ca_sha256, device, epoch)


def torrent_tag(info_hash: str, device: str, epoch: int) -> bytes:
    """Says that the device carries the torrent, not being whole yet; `info_hash` is hexadecimal, as in manifests."""
    return _tag(bytes.fromhex(info_hash), device, epoch)


def state_tag(segment_ca_sha256: bytes, device: str, epoch: int, timestamp_version: int) -> bytes:
    """Says which metadata the device has, so that a member which has other can compare notes."""
    return _tag(segment_ca_sha256, device, epoch, b"\0" + timestamp_version.to_bytes(8))


def whole_tag(info_hash: str, device: str, epoch: int) -> bytes:
    """Says that the device has all pieces of the torrent, so that nobody need ask the origin for them."""
    return _tag(bytes.fromhex(info_hash), device, epoch, b"\0whole")


def aside_tag(segment_ca_sha256: bytes, device: str, epoch: int) -> bytes:
    """Says that others must not wait for the device to bring anything from the origin."""
    return _tag(segment_ca_sha256, device, epoch, b"\0aside")  # a state's message is three bytes longer


def tags_to_announce(
    segment_ca_sha256: bytes,
    device: str,
    epoch: int,
    *,
    timestamp_version: int,
    info_hashes: Sequence[str],
    whole: Container[str] = frozenset(),
    is_aside: bool = False,
) -> frozenset[bytes]:
    """All tags of one announcement.

    `info_hashes` come dearest first, since those that no longer fit (MAX_TAGS, less the other three) are left out:
    members still see the device, and dial it only for what they know it to carry. `whole` are those that are complete.
    """
    tags = [presence_tag(segment_ca_sha256, device, epoch)]
    tags.append(state_tag(segment_ca_sha256, device, epoch, timestamp_version))
    if is_aside:
        tags.append(aside_tag(segment_ca_sha256, device, epoch))
    wanted = list(dict.fromkeys(info_hashes))[: MAX_TAGS - len(tags)]
    for info_hash in wanted:
        tags.append((whole_tag if info_hash in whole else torrent_tag)(info_hash, device, epoch))
    return frozenset(tags)


@dataclass(frozen=True, kw_only=True)
class Recognised:
    """What a sighting means to us. `info_hashes` are those of ours that the device claims to carry, `whole` or not."""

    device: str
    info_hashes: frozenset[str]
    whole: frozenset[str]
    has_other_state: bool  # its metadata is newer or older than ours
    is_aside: bool = False  # it brings the site nothing from the origin now


@dataclass(frozen=True, kw_only=True)
class TagBook:
    """Makes sense of tags. Made by `write`; write another when members, torrents, metadata or the epoch change.

    Only presence tags are worked out ahead: three for each member, about 0.1 s for the 5,000 that a site may have.
    Who a sighting is takes one lookup a tag, and then one HMAC for each torrent we know. Working those out ahead too
    would cost members times torrents: seconds on a large site, for devices that are mostly not on this LAN.
    """

    segment_ca_sha256: bytes
    timestamp_version: int
    info_hashes: tuple[str, ...]
    presence: Mapping[bytes, tuple[str, int]]  # tag: device, epoch

    @classmethod
    def write(
        cls,
        segment_ca_sha256: bytes,
        *,
        members: Iterable[str],
        info_hashes: Iterable[str],
        timestamp_version: int,
        now: int,
    ) -> "TagBook":
        """The book for the epoch of `now` (Unix seconds) and, as clocks differ, for the ones before and after.

        Leave ourselves out of `members` if our own announcements are to stay unknown.
        """
        epochs = range(epoch_of(now) - 1, epoch_of(now) + 2)
        presence = {
            presence_tag(segment_ca_sha256, device, epoch): (device, epoch)
            for device in members
            for epoch in epochs
            if epoch >= 0
        }
        return cls(
            segment_ca_sha256=segment_ca_sha256,
            timestamp_version=timestamp_version,
            info_hashes=tuple(dict.fromkeys(info_hashes)),
            presence=MappingProxyType(presence),
        )

    def recognise(self, sighting: Sighting) -> Recognised | None:
        """Who that is and what it has; None for strangers, and for whoever claims to be two devices."""
        claims = {self.presence[tag] for tag in sighting.tags if tag in self.presence}
        if len({device for device, _ in claims}) != 1:
            return None
        device, epoch = max(claims)  # the newest, should one device's tags of two epochs have been put together
        state = state_tag(self.segment_ca_sha256, device, epoch, self.timestamp_version)
        whole = frozenset(one for one in self.info_hashes if whole_tag(one, device, epoch) in sighting.tags)
        partly = frozenset(one for one in self.info_hashes if torrent_tag(one, device, epoch) in sighting.tags)
        return Recognised(
            device=device,
            info_hashes=whole | partly,
            whole=whole,
            has_other_state=state not in sighting.tags,
            is_aside=aside_tag(self.segment_ca_sha256, device, epoch) in sighting.tags,
        )


def _tag(key: bytes, device: str, epoch: int, suffix: bytes = b"") -> bytes:
    return hmac.digest(key, epoch.to_bytes(8) + device.encode() + suffix, "sha256")[:TAG_BYTES]
