# SPDX-License-Identifier: Apache-2.0
"""Small, valid documents of a fleet, and a simulated repository that serves them."""

import hashlib
from datetime import UTC, datetime

from signing.codec import encode
from signing.manifest import Content, Manifest, SegmentTorrent, Transport, manifest_target, torrent_target
from signing.policy import POLICY_TARGET, Policy, Ring
from signing.recall import RECALL_TARGET, RecallList
from signing.schedule import Schedule, schedule_target
from tests.signing.repository_simulator import RepositorySimulator

NOW = datetime(2030, 1, 1, tzinfo=UTC)
TRANSPORT = b"the compressed payload"
TORRENT = b"d4:infod4:name7:defaultee"


def make_manifest(version: str = "1.0", counter: int = 1, *, product: str = "tool") -> Manifest:
    """A release of `product` for the segment `default`, whose transport file is TRANSPORT."""
    torrent = SegmentTorrent(
        segment="default",
        info_hash=hashlib.sha256(TORRENT).hexdigest(),
        target=torrent_target(product, version, "default"),
    )
    content = Content(sha256=hashlib.sha256(TRANSPORT).hexdigest(), size=len(TRANSPORT))
    return Manifest(
        product=product,
        version=version,
        release_counter=counter,
        payload=Content(sha256="0" * 64, size=1_000),
        transports=(Transport(codec="zstd", content=content, torrents=(torrent,)),),
    )


def make_policy(version: int = 1) -> Policy:
    """One segment, one ring."""
    return Policy(version=version, segments=("default",), rings=(Ring(name="everyone"),))


def make_schedule(site: str = "hq") -> Schedule:
    """Nothing offered to `site`."""
    return Schedule(site=site, policy_version=1, issued=0, expires=1, members=(), offers=())


def serve_fleet(now: datetime = NOW) -> RepositorySimulator:
    """A repository with the fleet's roles and one of each document; `patches` needs two signatures."""
    fleet = RepositorySimulator(now)
    fleet.delegate("targets", "patches", ["patches/*/*/*"], keys=2)
    for role in ("policies", "recalls", "schedules"):
        fleet.delegate("targets", role, [f"{role}/*"])
    fleet.add_target("targets", "trust/default.pem", b"-----BEGIN CERTIFICATE-----")
    add_release(fleet, make_manifest())
    fleet.add_target("policies", POLICY_TARGET, encode(make_policy()))
    fleet.add_target("recalls", RECALL_TARGET, encode(RecallList(version=1)))
    fleet.add_target("schedules", schedule_target("hq"), encode(make_schedule()))
    fleet.release("targets", "patches", "policies", "recalls", "schedules")
    return fleet


def add_release(fleet: RepositorySimulator, manifest: Manifest) -> None:
    """List a manifest and its torrent; visible after `fleet.release("patches")`."""
    product, version = manifest.product, manifest.version
    fleet.add_target("patches", manifest_target(product, version), encode(manifest))
    fleet.add_target("patches", torrent_target(product, version, "default"), TORRENT)
