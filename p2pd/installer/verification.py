# SPDX-License-Identifier: Apache-2.0
"""What the signed metadata says of a release: p2pd-install's own look at it, believing nothing that it is told.

The unprivileged daemon hands over a directory of signed files. They are verified against trust state of our own,
which only ever moves forward, so that the daemon can neither forge nor bring back what was superseded or withdrawn.
It can withhold news, of recalls too: then what was seen so far counts.

One edition of the metadata is verified once, not for each of the thousands of releases that it may bring: as long as
the directory shows the very timestamp that was verified, and no newer root, verifying it again could only tell whether
it has expired since, which is asked for each release anyway.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tuf.api.exceptions import DownloadError, DownloadHTTPError

from p2pd.host.atomic_file import read_bounded
from p2pd.host.telemetry import log
from p2pd.installer.disk import Disk, remove_leftovers, replace_file
from signing.codec import decode, encode
from signing.errors import NotListed, RolledBack, SigningError
from signing.file_tree import remove_unfinished
from signing.mirror import MIRROR_METADATA_URL, MIRROR_TARGETS_URL, DirectoryFetcher
from signing.recall import Recall, RecallList
from signing.trust import MAX_TIMESTAMP_BYTES, TrustClient, VerifiedManifest
from signing.trust_anchor import MAX_ROOT_BYTES

_TIMESTAMP_URL = f"{MIRROR_METADATA_URL}timestamp.json"

_log = log(__name__)


@dataclass(frozen=True)
class _Edition:
    """What `client` has verified out of `mirror` while that showed `timestamp`."""

    mirror: Path
    timestamp: bytes
    client: TrustClient


class Verifier:
    """Our trust state below `directory`. `prepare` comes first, once."""

    def __init__(self, directory: Path, disk: Disk, *, now: Callable[[], datetime]) -> None:
        self._metadata = directory / "metadata"
        self._targets = directory / "targets"
        self._recalls = directory / "recalls"
        self._disk = disk
        self._now = now
        self._lock = threading.Lock()  # products are installed by several threads; the trust state is one
        self._edition: _Edition | None = None  # verified last, and nothing has gone wrong with it since
        self._newest = RecallList(version=1)  # that this process verified: counts though it could not be written down

    def prepare(self, root: bytes) -> None:
        """Trust `root`, the repository's first. Raises BadInput if another one is trusted here."""
        remove_leftovers(self._disk, self._recalls.parent)
        if self._metadata.is_dir():
            remove_unfinished(self._metadata)
            for path in self._metadata.glob("tmp*"):  # what a killed python-tuf leaves
                path.unlink()
        TrustClient.bootstrap(self._metadata, root)

    def verify(self, product: str, version: str, mirror: Path) -> VerifiedManifest:
        """The release's manifest, by metadata that is fresh now, and not recalled at the time of this look.

        Raises SigningError; OSError if our own disk fails us.
        """
        with self._refreshed(mirror) as client:
            manifest = client.manifest(product, version)
            client.check_fresh()
        return manifest

    def learn_recalls(self, mirror: Path) -> None:
        """Take over the recalls that `mirror` proves. One that is absent, expired or untrusted proves none: that is
        logged, and no error, since a release that failed must be left whatever the mirror is like.
        """
        try:
            with self._refreshed(mirror):
                pass
        except (SigningError, OSError) as problem:
            _log.warning("no news of recalls", mirror=str(mirror), problem=str(problem))

    def recall_of(self, manifest_sha256: str) -> Recall | None:
        """The recall of that release in the newest list that was verified here; expiry plays no part."""
        return self._known_recalls().withdraws(manifest_sha256)

    @contextmanager
    def _refreshed(self, mirror: Path) -> Iterator[TrustClient]:
        with self._lock:
            before, self._edition = self._edition, None
            try:
                timestamp = _timestamp_in(mirror)
                if before is not None and _is_unchanged(before, mirror, timestamp):
                    client = before.client
                else:
                    client = self._refresh(mirror)
                yield client
                self._edition = _Edition(mirror, timestamp, client) if timestamp is not None else None
            finally:
                self._disk.remove_tree(self._targets)  # we keep what we need of it ourselves

    def _refresh(self, mirror: Path) -> TrustClient:
        client = TrustClient(
            self._metadata,
            self._targets,
            DirectoryFetcher(mirror),
            metadata_url=MIRROR_METADATA_URL,
            targets_url=MIRROR_TARGETS_URL,
            now=self._now,
        )
        client.refresh()
        self._keep(_recalls(client))
        return client

    def _keep(self, fresh: RecallList) -> None:
        known = self._known_recalls()
        if fresh.version < known.version:
            raise RolledBack(f"recall list: version {fresh.version}, and {known.version} was seen before")
        self._newest = fresh
        if fresh != self._written_recalls():
            replace_file(self._disk, self._recalls, encode(fresh))

    def _known_recalls(self) -> RecallList:
        written = self._written_recalls()
        return self._newest if self._newest.version > written.version else written

    def _written_recalls(self) -> RecallList:
        try:
            data = read_bounded(self._recalls, RecallList.max_bytes)
        except FileNotFoundError:
            return RecallList(version=1)
        return decode(RecallList, data, where=str(self._recalls))


def _is_unchanged(edition: _Edition, mirror: Path, timestamp: bytes | None) -> bool:
    """Whether a refresh would verify once more what the edition's client has verified."""
    if (mirror, timestamp) != (edition.mirror, edition.timestamp):
        return False
    next_root = f"{MIRROR_METADATA_URL}{edition.client.versions()['root'] + 1}.root.json"
    try:
        DirectoryFetcher(mirror).download_bytes(next_root, MAX_ROOT_BYTES)
    except DownloadHTTPError:
        return True
    except DownloadError:
        return False  # something is there, and a refresh will say what
    return False


def _timestamp_in(mirror: Path) -> bytes | None:
    """What nobody has verified; None if it cannot be read, as a refresh will say."""
    try:
        data: bytes = DirectoryFetcher(mirror).download_bytes(_TIMESTAMP_URL, MAX_TIMESTAMP_BYTES)
    except DownloadError:
        return None
    return data


def _recalls(client: TrustClient) -> RecallList:
    try:
        return client.recalls()
    except NotListed:
        return RecallList(version=1)  # a fleet that has never recalled anything; what was seen once stays known
