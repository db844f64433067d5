# SPDX-License-Identifier: Apache-2.0
"""What services are told about the fleet, made without signatures: as if it had been verified."""

import hashlib
from collections.abc import Sequence
from datetime import timedelta

from p2pd.ports_control import Trusted
from p2pd.services.site import Identity
from signing.codec import encode
from signing.manifest import Content, Manifest, SegmentTorrent, Transport, torrent_target
from signing.policy import Policy, Ring
from signing.recall import RecallList
from signing.schedule import Member, Schedule
from signing.verified import VerifiedManifest, open_manifest
from tests.fakes.frozen_clock import START

SELF = Identity(device="desk-1", segment="default", site="hq")
NOW = int(START.timestamp())


def make_trusted(
    version: int = 1,
    *,
    members: Sequence[str] = ("desk-1", "desk-2", "desk-3"),
    manifests: Sequence[VerifiedManifest] = (),
    issued: int = NOW,
) -> Trusted:
    """A view at timestamp version `version`, in which all is well."""
    return Trusted(
        timestamp_version=version,
        policy=Policy(version=1, segments=("default",), rings=(Ring(name="everyone"),)),
        schedule=Schedule(
            site=SELF.site,
            policy_version=1,
            issued=issued,
            expires=issued + 86_400,
            members=tuple(Member(device=device) for device in members),
            offers=(),
        ),
        recalls=RecallList(version=1),
        manifests=tuple(manifests),
        expiries={"timestamp": START + timedelta(days=1)},
        segment_ca_pem=b"the segment's certificate",
    )


def make_verified(info_hash: str) -> VerifiedManifest:
    """A release whose torrent has this info-hash."""
    torrent = SegmentTorrent(segment="default", info_hash=info_hash, target=torrent_target("tool", "1.0", "default"))
    content = Content(sha256="1" * 64, size=10)
    manifest = Manifest(
        product="tool",
        version="1.0",
        release_counter=1,
        payload=Content(sha256="0" * 64, size=1_000),
        transports=(Transport(codec="zstd", content=content, torrents=(torrent,)),),
    )
    data = encode(manifest)
    return open_manifest(data, sha256=hashlib.sha256(data).hexdigest(), where="test")
