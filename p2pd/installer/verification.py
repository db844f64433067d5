# SPDX-License-Identifier: Apache-2.0
"""What the signed metadata says of a release: p2pd-install's own look at it, believing nothing that it is told.

The unprivileged daemon hands over a directory of signed files. They are verified against trust state of our own,
which only ever moves forward, so that the daemon can neither forge nor bring back what was superseded or withdrawn.
It can withhold news, of recalls too: then what was seen so far counts.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from p2pd.host.atomic_file import read_bounded
from p2pd.host.telemetry import log
from p2pd.installer.disk import Disk, remove_leftovers, replace_file
from signing.codec import decode, encode
from signing.errors import NotListed, RolledBack, SigningError
from signing.file_tree import remove_unfinished
from signing.mirror import MIRROR_METADATA_URL, MIRROR_TARGETS_URL, DirectoryFetcher
from signing.recall import Recall, RecallList
from signing.trust import TrustClient, VerifiedManifest

_log = log(__name__)


class Verifier:
    """Our trust state below `directory`. `prepare` comes first, once."""

    def __init__(self, directory: Path, disk: Disk, *, now: Callable[[], datetime]) -> None:
        self._metadata = directory / "metadata"
        self._targets = directory / "targets"
        self._recalls = directory / "recalls"
        self._disk = disk
        self._now = now
        self._lock = threading.Lock()  # products are installed by several threads; the trust state is one
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
            client = TrustClient(
                self._metadata,
                self._targets,
                DirectoryFetcher(mirror),
                metadata_url=MIRROR_METADATA_URL,
                targets_url=MIRROR_TARGETS_URL,
                now=self._now,
            )
            try:
                client.refresh()
                self._keep(_recalls(client))
                yield client
            finally:
                self._disk.remove_tree(self._targets)  # we keep what we need of it ourselves

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


def _recalls(client: TrustClient) -> RecallList:
    try:
        return client.recalls()
    except NotListed:
        return RecallList(version=1)  # a fleet that has never recalled anything; what was seen once stays known
