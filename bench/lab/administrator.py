# SPDX-License-Identifier: Apache-2.0
"""A throw-away fleet's administrator: its keys, its releases of random bytes, its policy of one ring.

The fleet is made once by `Template` and copied for each run; a release is built once and published in each copy.
"""

import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

import trio

from seeds.adapters.store import Store
from seeds.commands.publication import publish_role, shelf_of, sign_role
from seeds.config import Address
from seeds.fleet import Fleet, open_fleet
from seeds.new_fleet import FleetPlan, create_fleet
from seeds.services.building import PatchWish, build_patch
from seeds.services.publishing import BuiltPatch, poke_coordinator, stage_patch, stage_policy
from seeds.services.tokens import TokenWish, issue_token
from signing import encrypted_pkcs8
from signing.policy import Policy, Ring
from signing.repository import Repository
from signing.token import EnrolmentToken

OFFLINE, ONLINE = "a passphrase for offline keys", "a passphrase for online keys"
PUBLIC_PORT, AGENT_PORT, METRICS_PORT = 8443, 8444, 9464
SEGMENT = "bench"
PRODUCT = "cargo"
_CHUNK_BYTES = 1 << 20
# One source address enrols all endpoints here, at once; no throw-away fleet needs to be protected from that.
_PERMISSIVE = "enrolments_per_second = 10000\nenrolment_burst = 100000\n"


@dataclass(frozen=True, kw_only=True)
class Release:
    """A release as it was built. `transport` is the file that travels, of `size` bytes."""

    built: BuiltPatch
    transport: Path

    @property
    def version(self) -> str:
        """Of the release."""
        return self.built.manifest.version

    @property
    def size(self) -> int:
        """Of the transport, in bytes."""
        return self.built.manifest.transports[0].content.size

    @property
    def sha256(self) -> str:
        """Of the transport."""
        return self.built.manifest.transports[0].content.sha256


@contextmanager
def cheap_keys() -> Iterator[None]:
    """Make key files whose passphrase is worth nothing, in no time: for fleets that guard nothing."""
    with patch.object(encrypted_pkcs8, "_SCRYPT_N", 2):
        yield


class Template:
    """A fleet directory to be copied, whose coordinator is to listen at `address`, and releases that it can publish."""

    def __init__(self, directory: Path, address: str, *, names: tuple[str, ...] = ()) -> None:
        """`names` are further names or addresses at which devices reach the coordinator. Raises BadInput."""
        self.directory = directory / "fleet"
        self._workshop = directory / "workshop"
        self._releases: dict[tuple[str, int], Release] = {}
        plan = FleetPlan(
            names=(address, *names),
            segments=(SEGMENT,),
            public=Address(host=address, port=PUBLIC_PORT),
            agent=Address(host=address, port=AGENT_PORT),
            metrics=Address(host="127.0.0.1", port=METRICS_PORT),
        )
        with cheap_keys():
            create_fleet(
                self.directory,
                plan,
                offline_passphrase=OFFLINE.encode(),
                online_passphrase=ONLINE.encode(),
                now=datetime.now(UTC),
            )
        config = self.directory / "fleet.toml"
        config.write_text(_PERMISSIVE + config.read_text())

    def release(self, version: str, counter: int, size: int) -> Release:
        """A release of `size` random bytes, built at its first mention: seconds of work for a hundred megabytes."""
        if (version, size) not in self._releases:
            source = self._workshop / f"{version}-{size}"
            source.mkdir(parents=True)
            write_random(source / "data", size, seed=f"{version} {size}")
            wish = PatchWish(product=PRODUCT, version=version, release_counter=counter)
            authorities = {SEGMENT: open_fleet(self.directory).read_segment_certificate(SEGMENT)}
            built, payload = build_patch(wish, source, into=self._workshop / "built", segment_authorities=authorities)
            self._releases[version, size] = Release(built=built, transport=payload.transport_path)
            shutil.rmtree(source)
        return self._releases[version, size]


class Administrator:
    """The administrator of one copy of a template."""

    def __init__(self, template: Template, directory: Path) -> None:
        """Copies the fleet into `directory`, and lets one ring have everything at once."""
        shutil.copytree(template.directory, directory)
        self.fleet: Fleet = open_fleet(directory)
        self.repository = Repository(self.fleet.repository)
        self.passphrase = directory / "online-passphrase"
        self.passphrase.touch(mode=0o600)
        self.passphrase.write_text(ONLINE)
        policy = Policy(version=2, segments=(SEGMENT,), rings=(Ring(name="everyone"),))
        stage_policy(self.repository, policy, now=datetime.now(UTC))
        self._sign("policies")
        self._publish("policies")

    def token(self, site: str, *, uses: int) -> EnrolmentToken:
        """An enrolment token for that many endpoints of a site."""
        with Store(self.fleet.database) as store:
            wish = TokenWish(segment=SEGMENT, site=site, uses=uses)
            return issue_token(store, self.fleet.pins(), wish, who="bench", now=int(datetime.now(UTC).timestamp()))

    def prepare(self, release: Release) -> None:
        """Stage and sign a release: everything that happens before anybody is told."""
        stage_patch(self.repository, shelf_of(self.fleet), release.built, now=datetime.now(UTC))
        self._sign("patches")

    async def publish(self) -> None:
        """Publish what was prepared, and tell the coordinator."""
        self._publish("patches")
        await trio.to_thread.run_sync(poke_coordinator, self.fleet.control_socket)

    def _sign(self, role: str) -> None:
        sign_role(self.fleet, self.repository, role, OFFLINE.encode())

    def _publish(self, role: str) -> None:
        publish_role(self.fleet, self.repository, role, ONLINE.encode(), now=datetime.now(UTC))


def write_random(path: Path, size: int, *, seed: str) -> None:
    """A file of `size` bytes that no compressor makes smaller; the same for the same seed."""
    chance = random.Random(seed)  # noqa: S311 (content, not keys)
    with path.open("wb") as file:
        for at in range(0, size, _CHUNK_BYTES):
            file.write(chance.randbytes(min(_CHUNK_BYTES, size - at)))
