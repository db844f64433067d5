# SPDX-License-Identifier: Apache-2.0
"""The people and devices of a test fleet: an administrator with all keys, and devices that sign for themselves."""

import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from securesystemslib.signer import Signer

from seeds.adapters.payload_shelf import PayloadShelf
from seeds.fleet import Fleet
from seeds.records import Device, Token
from seeds.services.publishing import BuiltPatch, publish, stage_patch, stage_recall
from seeds.signers import open_signers
from signing.devices import DeviceKey
from signing.envelope import seal
from signing.manifest import Content, Manifest, SegmentTorrent, Transport, torrent_target
from signing.report import InstallState, Report
from signing.repository import Repository

OFFLINE = b"offline passphrase"
ONLINE = b"online passphrase"


def build(
    directory: Path, version: str, counter: int, *, product: str = "tzdata", segments: tuple[str, ...] = ("office",)
) -> BuiltPatch:
    """A tiny release, with bytes of its own for payload and torrents."""
    directory.mkdir(parents=True, exist_ok=True)
    transport = directory / f"{product}-{version}.zst"
    data = f"payload of {product} {version}".encode() * 100
    transport.write_bytes(data)
    content = Content(sha256=hashlib.sha256(data).hexdigest(), size=len(data))
    torrents = {torrent_target(product, version, segment): f"torrent {segment}".encode() for segment in segments}
    named = tuple(
        SegmentTorrent(
            segment=segment,
            info_hash=hashlib.sha256(f"{product} {version} {segment}".encode()).hexdigest(),
            target=torrent_target(product, version, segment),
        )
        for segment in segments
    )
    manifest = Manifest(
        product=product,
        version=version,
        release_counter=counter,
        payload=content,
        transports=(Transport(codec="zstd", content=content, torrents=named),),
    )
    return BuiltPatch(manifest=manifest, torrents=torrents, transports=(transport,))


class Administrator:
    """Holds every key of the fleet, and opens each once."""

    def __init__(self, fleet: Fleet, workshop: Path) -> None:
        self.repository = Repository(fleet.repository)
        self.shelf = PayloadShelf(fleet.payloads)
        self._fleet = fleet
        self._workshop = workshop
        self._signers: dict[str, tuple[Signer, ...]] = {}

    def signers(self, role: str) -> tuple[Signer, ...]:
        if role not in self._signers:
            passphrase = ONLINE if role in ("schedules", "snapshot", "timestamp") else OFFLINE
            self._signers[role] = open_signers(self._fleet, self.repository, role, lambda _: passphrase)
        return self._signers[role]

    def stage(self, version: str, counter: int, **about: Any) -> BuiltPatch:
        built = build(self._workshop, version, counter, **about)
        stage_patch(self.repository, self.shelf, built, now=datetime.now(UTC))
        return built

    def sign(self, role: str) -> None:
        for signer in self.signers(role):
            self.repository.sign(role, signer)

    def publish(self, role: str) -> tuple[Manifest, ...]:
        (snapshot,), (timestamp,) = self.signers("snapshot"), self.signers("timestamp")
        return publish(
            self.repository, self.shelf, [role], snapshot=snapshot, timestamp=timestamp, now=datetime.now(UTC)
        )

    def release(self, version: str, counter: int, **about: Any) -> str:
        """Build, sign by everybody, publish; the manifest's digest."""
        built = self.stage(version, counter, **about)
        self.sign("patches")
        self.publish("patches")
        data = self.repository.read_target("patches", built.manifest.target)
        assert data is not None
        return hashlib.sha256(data).hexdigest()

    def recall(self, version: str, *, product: str = "tzdata", why: str = "it eats files") -> None:
        stage_recall(self.repository, product, version, why, now=datetime.now(UTC))
        self.sign("recalls")
        self.publish("recalls")


@dataclass
class Endpoint:
    """A device with its own key, which counts its reports."""

    name: str
    key: DeviceKey = field(default_factory=DeviceKey.generate)
    sequence: int = 0

    def csr(self) -> bytes:
        return self.key.csr(self.name)

    def report(self, state: InstallState, *, version: str = "1", manifest_sha256: str = "0" * 64) -> Report:
        self.sequence += 1
        return Report(
            device=self.name,
            sequence=self.sequence,
            time=1_800_000_000,
            product="tzdata",
            version=version,
            manifest_sha256=manifest_sha256,
            state=state,
        )

    def seal(self, report: Report) -> Any:
        """The envelope as the JSON object that travels."""
        return json.loads(seal(report, self.key))

    def as_record(self, *, segment: str = "office", site: str = "paris", enrolment: int = 1) -> Device:
        return Device(
            device=self.name,
            segment=segment,
            site=site,
            public_pem=self.key.public_pem,
            token_sha256="0" * 64,
            enrolled_at=1,
            certificate_expires=2_000_000_000,
            enrolment=enrolment,
        )


def token(secret_sha256: str = "a" * 64, **about: Any) -> Token:
    """A token that is good for one device of the office in Paris, changed by `about`."""
    facts: dict[str, Any] = {
        "secret_sha256": secret_sha256,
        "segment": "office",
        "site": "paris",
        "root_version": 1,
        "expires_at": 2_000_000_000,
        "uses_left": 1,
    }
    return Token(**{**facts, **about})
