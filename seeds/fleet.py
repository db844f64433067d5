# SPDX-License-Identifier: Apache-2.0
"""The fleet directory: everything that a coordinator and its administrators have on disk, and where it lies.

fleet.toml                what operators set
keys/offline/  online/    private keys of the roles, encrypted; the offline ones belong elsewhere after `init`
segments/                 each segment's authority: certificate, and encrypted key
server/                   the coordinator's own certificate and key, and the authority that clients pin
repository/               signed metadata and targets, as they are served
payloads/                 transport files by SHA-256, as they are served; `.staged/` waits for signatures
state/  run/              database; control socket
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from p2pd.host.atomic_file import read_bounded
from seeds.config import CoordinatorConfig, load_fleet_config
from seeds.services.tokens import Pins
from signing.devices import MAX_PEM_BYTES, SegmentAuthority
from signing.errors import BadInput, KeyUnavailable

MAX_ROOT_BYTES = 524_288
_ROOT = re.compile(r"([1-9][0-9]*)\.root\.json")


@dataclass(frozen=True)
class FleetLayout:
    """Where the files are whose place cannot be configured."""

    directory: Path

    @property
    def config(self) -> Path:
        """What operators set."""
        return self.directory / "fleet.toml"

    @property
    def offline_keys(self) -> Path:
        """Keys that belong on media in a safe, not here."""
        return self.directory / "keys" / "offline"

    @property
    def online_keys(self) -> Path:
        """Keys that the coordinator opens."""
        return self.directory / "keys" / "online"

    @property
    def server_ca(self) -> Path:
        """The authority of the coordinator's certificate, whose digest is in every token."""
        return self.directory / "server" / "ca.pem"

    @property
    def server_certificate(self) -> Path:
        """The coordinator's certificate and its chain."""
        return self.directory / "server" / "certificate.pem"

    @property
    def server_key(self) -> Path:
        """The coordinator's TLS key: not encrypted, mode 0600, since TLS libraries read it from a file."""
        return self.directory / "server" / "key.pem"

    @property
    def client_ca(self) -> Path:
        """All segments' authorities in one file, for the agents' listener; written at every start."""
        return self.directory / "run" / "client-ca.pem"

    def segment_certificate(self, segment: str) -> Path:
        """A segment's authority."""
        return self.directory / "segments" / f"{segment}.pem"

    def segment_key(self, segment: str) -> Path:
        """Its encrypted key."""
        return self.directory / "segments" / f"{segment}-key.pem"


@dataclass(frozen=True)
class Fleet:
    """An existing fleet directory and its configuration."""

    layout: FleetLayout
    config: CoordinatorConfig

    @property
    def directory(self) -> Path:
        """Where relative paths start."""
        return self.layout.directory

    @property
    def repository(self) -> Path:
        """Signed metadata and targets."""
        return self.directory / self.config.repository

    @property
    def payloads(self) -> Path:
        """Transport files by SHA-256."""
        return self.directory / self.config.payloads

    @property
    def staged_payloads(self) -> Path:
        """Transport files of releases that wait for signatures; on the same file system, and never served."""
        return self.payloads / ".staged"

    @property
    def database(self) -> Path:
        """Devices, tokens, reports and rollouts."""
        return self.directory / self.config.database

    @property
    def control_socket(self) -> Path:
        """Where `p2pctl` finds the running coordinator."""
        return self.directory / self.config.control_socket

    def read_segment_certificate(self, segment: str) -> bytes:
        """The authority of a segment, in PEM. Raises BadInput."""
        return _read_pem(self.layout.segment_certificate(segment))

    def read_server_ca(self) -> bytes:
        """The authority of the coordinator's certificate, in PEM. Raises BadInput."""
        return _read_pem(self.layout.server_ca)

    def open_authority(self, segment: str, passphrase: bytes) -> SegmentAuthority:
        """A segment's authority, with its key. Raises BadInput or KeyUnavailable."""
        certificate, path = self.read_segment_certificate(segment), self.layout.segment_key(segment)
        try:
            key = _read_pem(path)
        except BadInput as problem:
            raise KeyUnavailable(str(problem)) from None
        authority = SegmentAuthority.from_pem(certificate, key, passphrase)
        if authority.segment != segment:
            raise BadInput(str(path), f"belongs to segment {authority.segment!r}, not {segment!r}")
        return authority

    def pins(self) -> Pins:
        """What enrolment tokens pin: the public address, the server's authority, and the newest root."""
        metadata = self.repository / "metadata"
        versions = [int(match[1]) for path in metadata.glob("*.root.json") if (match := _ROOT.fullmatch(path.name))]
        if not versions:
            raise BadInput(str(metadata), "holds no root metadata", "make the fleet with `p2pctl init`")
        root = read_bounded(metadata / f"{max(versions)}.root.json", MAX_ROOT_BYTES)
        return Pins(
            url=self.config.public_url,
            ca_sha256=hashlib.sha256(self.read_server_ca()).hexdigest(),
            root_sha256=hashlib.sha256(root).hexdigest(),
            root_version=max(versions),
            segments=self.config.segments,
        )


def open_fleet(directory: Path) -> Fleet:
    """The fleet in `directory`. Raises BadInput when there is none, or its configuration is wrong."""
    layout = FleetLayout(directory.absolute())
    if not layout.config.is_file():
        raise BadInput(str(directory), "is no fleet directory", "make one with `p2pctl init`, or name another")
    return Fleet(layout, load_fleet_config(layout.config))


def _read_pem(path: Path) -> bytes:
    try:
        return read_bounded(path, MAX_PEM_BYTES)
    except OSError as problem:
        raise BadInput(str(path), f"cannot be read ({problem.strerror})", "restore it from a backup") from None
