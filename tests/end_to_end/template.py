# SPDX-License-Identifier: Apache-2.0
"""What all end-to-end tests of a run share: one fleet, freshly made, to be copied; releases built once; addresses."""

import itertools
import random
import secrets
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench.lab.administrator import AGENT_PORT, METRICS_PORT, OFFLINE, ONLINE, PUBLIC_PORT, cheap_keys
from bench.lab.administrator import Release as BuiltRelease
from p2pd.host.torrent_file import read_torrent
from seeds.config import Address
from seeds.fleet import open_fleet
from seeds.new_fleet import FleetPlan, create_fleet
from seeds.services.building import PatchWish, build_patch
from signing.manifest import CommandCheck, HealthPlan

SEGMENTS = ("accounting", "laboratory")
LAB_ADDRESS = "10.77.0.1"  # of the origin in a lab
LAB_ADDRESS_6 = "fd77::1"  # of the origin in a lab with IPv6
PROBATION_SECONDS, INTERVAL_SECONDS = 1.0, 0.3


@dataclass(frozen=True, kw_only=True)
class Release(BuiltRelease):
    """A release as it was built, and what the tests want to know of it."""

    piece_bytes: int
    files: Mapping[str, bytes]

    @property
    def product(self) -> str:
        return self.built.manifest.product


class Template:
    """A fleet directory with cheap keys. `address` is where its coordinator is to listen."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "fleet"
        self._workshop = directory / "workshop"
        self._prefix = f"127.{1 + secrets.randbelow(250)}.{secrets.randbelow(255)}"
        self._hosts = itertools.count(1)
        self._releases: dict[tuple[object, ...], Release] = {}
        self.address = self.next_address()
        plan = FleetPlan(
            names=(self.address, LAB_ADDRESS, LAB_ADDRESS_6),
            segments=SEGMENTS,
            public=Address(host=self.address, port=PUBLIC_PORT),
            agent=Address(host=self.address, port=AGENT_PORT),
            metrics=Address(host=self.address, port=METRICS_PORT),
        )
        with cheap_keys():  # they guard nothing
            create_fleet(
                self.directory,
                plan,
                offline_passphrase=OFFLINE.encode(),
                online_passphrase=ONLINE.encode(),
                now=datetime.now(UTC),
            )

    def next_address(self) -> str:
        """A loopback address that no other test has. Raises OSError where 127.0.0.0/8 cannot be bound."""
        address = f"{self._prefix}.{next(self._hosts)}"
        with socket.socket() as probe:
            probe.bind((address, 0))
        return address

    def release(
        self, version: str, counter: int, *, healthy: bool = True, size: int = 4 << 20, count: int = 8, product: str
    ) -> Release:
        """Incompressible files, `count` of them, `size` bytes together; without one named `healthy` it is broken."""
        key = (product, version, counter, healthy, size, count)
        if key not in self._releases:
            self._releases[key] = self._build(*key)
        return self._releases[key]

    def _build(self, product: str, version: str, counter: int, healthy: bool, size: int, count: int) -> Release:
        chance = random.Random(f"{product} {version}")  # noqa: S311 (content for tests)
        files = {f"part-{number}/data": chance.randbytes(size // count) for number in range(count)}
        files["version"] = version.encode()
        if healthy:
            files["healthy"] = b"yes\n"
        source = self._workshop / f"{product}-{version}-{len(self._releases)}"
        for name, data in files.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(data)
        test = shutil.which("test")
        assert test is not None
        wish = PatchWish(
            product=product,
            version=version,
            release_counter=counter,
            health=HealthPlan(
                checks=(CommandCheck(argv=(test, "-s", "{slot}/healthy")),),
                probation_seconds=PROBATION_SECONDS,
                interval_seconds=INTERVAL_SECONDS,
            ),
        )
        fleet = open_fleet(self.directory)
        authorities = {segment: fleet.read_segment_certificate(segment) for segment in SEGMENTS}
        built, payload = build_patch(wish, source, into=self._workshop / "built", segment_authorities=authorities)
        torrent = read_torrent(next(iter(built.torrents.values())), where=version)
        return Release(built=built, transport=payload.transport_path, piece_bytes=torrent.piece_bytes, files=files)
