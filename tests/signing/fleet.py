# SPDX-License-Identifier: Apache-2.0
"""A fleet for tests of the repository: keys in memory, and as the reader python-tuf's own client, none of ours."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner, Key
from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface, Updater

from signing.repository import Repository
from signing.roles import ROLES

EPOCH = datetime(2026, 3, 1, 12, tzinfo=UTC)
AUTHORITY = {"trust/default.pem": b"certificate"}
POLICY = {"policies/fleet": b"policy 1"}
MANIFEST = "patches/tzdata/2025.2/manifest"
RELEASE = {MANIFEST: b"manifest", "patches/tzdata/2025.2/default.torrent": b"torrent"}


class Fleet:
    """One signer per role, two for patches; `now` moves only when a test moves it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.now = EPOCH
        self.signers = {
            role: [CryptoSigner.generate_ed25519() for _ in range(terms.threshold)] for role, terms in ROLES.items()
        }
        self.repository = Repository.create(
            directory,
            keys=self.keys(),
            thresholds={},
            signers=self.signers,
            targets={"targets": AUTHORITY, "policies": POLICY},
            now=self.now,
        )

    def keys(self) -> dict[str, Sequence[Key]]:
        return {role: [signer.public_key for signer in signers] for role, signers in self.signers.items()}

    @property
    def root_bytes(self) -> bytes:
        return (self.directory / "metadata" / "1.root.json").read_bytes()

    def online(self, *roles: str) -> dict[str, Any]:
        """Signers as keyword arguments."""
        return {role: self.signers[role][0] for role in roles}

    def sign(self, role: str) -> None:
        for signer in self.signers[role]:
            self.repository.sign(role, signer)

    def publish(self, *roles: str) -> None:
        self.repository.publish(roles, **self.online("snapshot", "timestamp"), now=self.now)

    def release(self, put: Mapping[str, bytes], *, role: str = "patches") -> None:
        self.repository.stage(role, put, now=self.now)
        self.sign(role)
        self.publish(role)

    def put_online(self, put: Mapping[str, bytes]) -> None:
        self.repository.put_online(put, **self.online("schedules", "snapshot", "timestamp"), now=self.now)

    def renew(self) -> tuple[str, ...]:
        return self.repository.renew(**self.online("schedules", "snapshot", "timestamp"), now=self.now)

    def wait(self, *, days: float = 0, hours: float = 0) -> None:
        self.now += timedelta(days=days, hours=hours)


class DirectoryReads(FetcherInterface):
    """HTTP as a static server would answer it, from a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = self._directory / url.removeprefix("test:")
        if not path.is_file():
            raise DownloadHTTPError(f"{url} not found", 404)
        yield path.read_bytes()


class Client:
    """An endpoint's view: what it has seen before, it does not go back behind."""

    def __init__(self, state: Path, *, repository: Path, root: bytes) -> None:
        self._state = state
        self._repository = repository
        self._root = root
        for name in ("metadata", "targets"):
            (state / name).mkdir(parents=True, exist_ok=True)

    def refresh(self, now: datetime) -> Updater:
        updater = Updater(
            str(self._state / "metadata"),
            "test:metadata/",
            str(self._state / "targets"),
            "test:targets/",
            fetcher=DirectoryReads(self._repository),
            bootstrap=self._root,
        )
        updater._trusted_set.reference_time = now
        updater.refresh()
        return updater

    def read(self, now: datetime, target: str) -> bytes | None:
        """The target as of a new refresh; None if no role that may sign it lists it."""
        return read(self.refresh(now), target)


def read(updater: Updater, target: str) -> bytes | None:
    info = updater.get_targetinfo(target)
    return Path(updater.download_target(info)).read_bytes() if info else None
