# SPDX-License-Identifier: Apache-2.0
"""A directory of signed metadata, as the daemon would hand it to p2pd-install."""

from datetime import datetime, timedelta
from pathlib import Path

from signing.codec import encode
from signing.manifest import Manifest
from signing.recall import RECALL_TARGET, Recall, RecallList
from tests.p2pd.installer.made_releases import MadeRelease
from tests.signing.repository_simulator import RepositorySimulator


class SignedMirror:
    """A repository that signs releases and recalls, with every version of its files written to `directory`."""

    def __init__(self, directory: Path, now: datetime, *, lifetime: timedelta = timedelta(days=30)) -> None:
        self.directory = directory
        self.repository = RepositorySimulator(now, lifetime=lifetime)
        self.repository.delegate("targets", "patches", ["patches/*/*/*"], keys=2)
        self.repository.delegate("targets", "recalls", ["recalls/*"])
        self._recalls = RecallList(version=1)
        self.repository.release("targets", "patches", "recalls")
        self.write()

    @property
    def root(self) -> bytes:
        """The first root metadata: what an endpoint is given at enrolment."""
        return self.repository.files["metadata/1.root.json"]

    def sign(self, release: MadeRelease) -> None:
        """List the release under its product and version."""
        manifest: Manifest = release.manifest.manifest
        self.repository.add_target("patches", manifest.target, release.manifest.data)
        self.repository.release("patches")
        self.write()

    def recall(self, release: MadeRelease) -> None:
        """Withdraw the release."""
        manifest = release.manifest.manifest
        recall = Recall(
            product=manifest.product, version=manifest.version, manifest_sha256=release.sha256, why="it eats disks"
        )
        self._recalls = RecallList(version=self._recalls.version + 1, recalls=(*self._recalls.recalls, recall))
        self.publish_recalls(self._recalls)

    def publish_recalls(self, recalls: RecallList) -> None:
        """List that document, whatever was listed before."""
        self.repository.add_target("recalls", RECALL_TARGET, encode(recalls))
        self.repository.release("recalls")
        self.write()

    def write(self) -> None:
        """Write all files, old ones included."""
        for name, data in self.repository.files.items():
            path = self.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
