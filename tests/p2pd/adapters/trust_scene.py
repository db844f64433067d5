# SPDX-License-Identifier: Apache-2.0
"""A fleet with three releases on offer and one endpoint of it, for tests of what an endpoint trusts."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import IO

import trio
from tuf.api.exceptions import DownloadError
from tuf.ngclient import FetcherInterface

from p2pd.adapters.trust_source import TrustSource
from p2pd.ports_control import FromOrigin, Trusted
from signing.codec import encode
from signing.edition_news import News, encode_news, news_name
from signing.manifest import Manifest
from signing.recall import RECALL_TARGET, Recall, RecallList
from signing.schedule import Offer, Schedule, schedule_target
from signing.trust import TrustClient
from tests.signing.fleet_documents import NOW, add_release, make_manifest, serve_fleet
from tests.signing.repository_simulator import RepositorySimulator

RELEASES = (make_manifest("1.0", 1), make_manifest("2.0", 2), make_manifest("1.0", 1, product="other"))
ORIGIN = "simulated:"


class Origin(FetcherInterface):
    """A simulated repository behind a line that can be cut after so many more answers."""

    def __init__(self, fleet: RepositorySimulator) -> None:
        self.answers_left: int | None = None
        self.asked = 0
        self._fleet = fleet

    @contextmanager
    def download_file(self, url: str, max_length: int) -> Iterator[IO[bytes]]:
        self.asked += 1
        if self.answers_left == 0:
            raise DownloadError(f"{url}: does not answer")
        if self.answers_left is not None:
            self.answers_left -= 1
        with self._fleet.download_file(url.replace(f"{ORIGIN}/", ORIGIN), max_length) as file:
            yield file

    def _fetch(self, url: str) -> Iterator[bytes]:
        raise AssertionError("the trust client takes download_file")


class Scene:
    """A fleet with three releases on offer, and one endpoint of it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.fleet = serve_fleet()
        self.origin = Origin(self.fleet)
        for release in RELEASES:
            add_release(self.fleet, release)
        self.offer(*RELEASES)
        self.fleet.release("patches", "schedules")
        TrustClient.bootstrap(directory / "trust" / "metadata", self.fleet.files["metadata/1.root.json"])
        self.source = self.restarted()
        self._told: dict[str, bytes] = {}

    def restarted(self) -> TrustSource:
        """The endpoint's next process."""
        return TrustSource(
            self.directory,
            segment="default",
            site="hq",
            origin_url=ORIGIN,
            origin_fetcher=self.origin,
            peer_fetcher=self.origin,
            now=lambda: NOW,
            run_sync=trio.to_thread.run_sync,
        )

    async def refresh(self, *, newest: int = 0) -> Trusted:
        return await self.source.refresh(FromOrigin(newest=newest))

    def tell_news(self, **changes: bytes) -> int:
        """Serve all that is new since the last call in one file, with `changes` to it; the version to ask for."""
        new = {path: data for path, data in self.fleet.files.items() if self._told.get(path) != data}
        self._told = dict(self.fleet.files)
        metadata = {path.removeprefix("metadata/"): data for path, data in new.items() if path.startswith("metadata/")}
        targets = {path.removeprefix("targets/"): data for path, data in new.items() if path.startswith("targets/")}
        news = News(root=self.fleet.root.version, metadata=metadata | changes, targets=targets)
        version = self.fleet.timestamp.version
        self.fleet.files[f"metadata/{news_name(version)}"] = encode_news(news)
        return version

    def offer(self, *releases: Manifest) -> None:
        offers = tuple(
            Offer(
                product=release.product,
                version=release.version,
                release_counter=release.release_counter,
                manifest_sha256=digest(release),
                open_rings=1,
            )
            for release in releases
        )
        schedule = Schedule(site="hq", policy_version=1, issued=0, expires=1, members=(), offers=offers)
        self.fleet.add_target("schedules", schedule_target("hq"), encode(schedule))

    def recall(self, release: Manifest) -> None:
        """A new list of recalls, visible at once."""
        facts = {"product": release.product, "version": release.version}
        entry = Recall(**facts, manifest_sha256=digest(release), why="it deletes files")
        self.fleet.add_target("recalls", RECALL_TARGET, encode(RecallList(version=2, recalls=(entry,))))
        self.fleet.release("recalls")

    def lose(self, *names: str) -> None:
        """Every served file that ends so is missing."""
        for path in [path for path in self.fleet.files if path.endswith(names)]:
            del self.fleet.files[path]

    def spoil(self, role: str) -> None:
        """A new version of a role that has expired already."""
        self.fleet.delegated[role].expires = NOW - timedelta(days=1)
        self.fleet.release(role)


def digest(release: Manifest) -> str:
    return hashlib.sha256(encode(release)).hexdigest()


def names(trusted: Trusted) -> list[tuple[str, str]]:
    return [(verified.manifest.product, verified.manifest.version) for verified in trusted.manifests]


ALL = [("tool", "1.0"), ("tool", "2.0"), ("other", "1.0")]
