# SPDX-License-Identifier: Apache-2.0
"""The people with the offline keys: they build, sign and publish releases with real torrents, and withdraw them."""

import hashlib
import random
from dataclasses import dataclass
from pathlib import Path

from p2pd.host.wall_clock import WallClock
from seeds.adapters.payload_shelf import PayloadShelf
from seeds.adapters.torrent_maker import make_torrent
from seeds.fleet import Fleet
from seeds.services.publishing import BuiltPatch, next_counter, publish, stage_patch, stage_policy, stage_recall
from seeds.signers import open_online_keys, open_signers
from signing.manifest import Content, HealthPlan, Manifest, SegmentTorrent, Severity, Transport, torrent_target
from signing.policy import Policy
from signing.repository import Repository
from tests.fakes.fake_health_probe import check_of
from tests.simulator.software import build_release

PRODUCT = "tzdata"
SEGMENT = "office"
PIECE_BYTES = 16_384
OFFLINE, ONLINE = b"offline passphrase", b"online passphrase"


@dataclass(frozen=True, kw_only=True)
class Release:
    """A published release, for tests to speak of."""

    manifest: Manifest
    sha256: str  # of the manifest

    @property
    def version(self) -> str:
        """Its version."""
        return self.manifest.version

    @property
    def size(self) -> int:
        """Bytes that travel."""
        return self.manifest.transports[0].content.size

    @property
    def torrent(self) -> SegmentTorrent:
        """Its torrent in the one segment."""
        return self.manifest.transports[0].torrents[0]

    @property
    def segment(self) -> str:
        """The segment, and so the file's name."""
        return self.torrent.segment

    @property
    def info_hash(self) -> str:
        """Of its torrent."""
        return self.torrent.info_hash

    @property
    def transport_sha256(self) -> str:
        """Digest of the bytes that travel."""
        return self.manifest.transports[0].content.sha256


class Administrator:
    """Holds every offline key of the fleet."""

    def __init__(self, fleet: Fleet, workshop: Path, clock: WallClock) -> None:
        self._fleet = fleet
        self._workshop = workshop
        self._clock = clock
        self._repository = Repository(fleet.repository)
        self._shelf = PayloadShelf(fleet.payloads)
        self._online = open_online_keys(fleet, self._repository, ONLINE)

    def release(
        self,
        version: str,
        *,
        product: str = PRODUCT,
        pieces: int = 24,
        piece_bytes: int = PIECE_BYTES,
        probation_seconds: float = 60.0,
        failures_allowed: int = 0,
        severity: Severity = Severity.MODERATE,
    ) -> Release:
        """Build, sign and publish a release whose payload has so many pieces, the last one short."""
        data = random.Random(f"{product} {version}").randbytes(pieces * piece_bytes - 1_000)  # noqa: S311
        self._workshop.mkdir(exist_ok=True)
        transport = self._workshop / f"{product}-{version}.zst"
        transport.write_bytes(data)
        made = make_torrent(
            transport,
            name=SEGMENT,
            segment_ca_pem=self._fleet.read_segment_certificate(SEGMENT),
            piece_bytes=piece_bytes,
        )
        content = Content(sha256=hashlib.sha256(data).hexdigest(), size=len(data))
        target = torrent_target(product, version, SEGMENT)
        torrent = SegmentTorrent(segment=SEGMENT, info_hash=made.info_hash, target=target)
        manifest = Manifest(
            product=product,
            version=version,
            release_counter=next_counter(self._repository, product),
            payload=content,
            transports=(Transport(codec="zstd", content=content, torrents=(torrent,)),),
            severity=severity,
            health=HealthPlan(
                checks=(check_of(product, version),),
                probation_seconds=probation_seconds,
                interval_seconds=10,
                failures_allowed=failures_allowed,
            ),
        )
        built = BuiltPatch(manifest=manifest, torrents={target: made.torrent}, transports=(transport,))
        stage_patch(self._repository, self._shelf, built, now=self._clock.now())
        self._sign_and_publish("patches")
        return Release(manifest=manifest, sha256=self._digest_of(manifest))

    def release_software(self, version: str, *, product: str = PRODUCT, bases: tuple[Release, ...] = ()) -> Release:
        """Build, sign and publish a release with a real payload, and a real delta from each of `bases`."""
        counter = next_counter(self._repository, product)
        manifests = tuple(base.manifest for base in bases)
        built = build_release(self._fleet, self._workshop, product, version, counter, segment=SEGMENT, bases=manifests)
        stage_patch(self._repository, self._shelf, built, now=self._clock.now())
        self._sign_and_publish("patches")
        return Release(manifest=built.manifest, sha256=self._digest_of(built.manifest))

    def release_many(self, version: str, count: int, *, size: int, probation_seconds: float = 60.0) -> list[Release]:
        """Build, sign and publish small releases of so many products, which travel without torrents."""
        self._workshop.mkdir(exist_ok=True)
        manifests = []
        for number in range(count):
            product = f"small-{number}"
            data = random.Random(f"{product} {version}").randbytes(size + number % 7)  # noqa: S311
            content = Content(sha256=hashlib.sha256(data).hexdigest(), size=len(data))
            manifest = Manifest(
                product=product,
                version=version,
                release_counter=1,
                payload=content,
                transports=(Transport(codec="zstd", content=content, torrents=(), segments=(SEGMENT,)),),
                health=HealthPlan(
                    checks=(check_of(product, version),), probation_seconds=probation_seconds, interval_seconds=10
                ),
            )
            transport = self._workshop / f"{product}-{version}.zst"
            transport.write_bytes(data)
            built = BuiltPatch(manifest=manifest, torrents={}, transports=(transport,))
            stage_patch(self._repository, self._shelf, built, now=self._clock.now())
            manifests.append(manifest)
        self._sign_and_publish("patches")
        return [Release(manifest=manifest, sha256=self._digest_of(manifest)) for manifest in manifests]

    def _digest_of(self, manifest: Manifest) -> str:
        signed = self._repository.read_target("patches", manifest.target)
        assert signed is not None
        return hashlib.sha256(signed).hexdigest()

    def recall(self, release: Release, why: str = "it eats files") -> None:
        """Withdraw a release."""
        stage_recall(self._repository, release.manifest.product, release.version, why, now=self._clock.now())
        self._sign_and_publish("recalls")

    def set_policy(self, policy: Policy) -> None:
        """Publish another policy."""
        stage_policy(self._repository, policy, now=self._clock.now())
        self._sign_and_publish("policies")

    def _sign_and_publish(self, role: str) -> None:
        for signer in open_signers(self._fleet, self._repository, role, lambda _: OFFLINE):
            self._repository.sign(role, signer)
        keys = self._online
        publish(
            self._repository,
            self._shelf,
            [role],
            snapshot=keys.snapshot,
            timestamp=keys.timestamp,
            now=self._clock.now(),
        )
