# SPDX-License-Identifier: Apache-2.0
"""The trust client as the daemon uses it: in a worker thread, over the origin, a LAN peer, or its own mirror.

Recalls come first, and nothing else holds them up. What else cannot be read fails alone: one document of the fleet, or
all releases, stops new installs and leaves the rest as it was; one release stops itself.
"""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from tuf.ngclient import FetcherInterface

from p2pd.adapters.fail_fast import FailFastFetcher
from p2pd.adapters.news_fetcher import with_news
from p2pd.adapters.patient_reading import KnownGood, PatientReading
from p2pd.ports import Endpoint
from p2pd.ports_control import FromOrigin, FromPeer, MetadataSource, RunSync, StorageFailed, Trusted
from signing.errors import SourceUnavailable
from signing.mirror import MIRROR_METADATA_URL, MIRROR_TARGETS_URL, DirectoryFetcher, Mirror
from signing.trust import TrustClient
from signing.verified import VerifiedManifest

T = TypeVar("T")


class TrustSource:
    """Implements `p2pd.ports_control.Trust`. One refresh at a time; the caller sees to that."""

    def __init__(
        self,
        state_dir: Path,
        *,
        segment: str,
        site: str,
        origin_url: str,
        origin_fetcher: FetcherInterface,
        peer_fetcher: FetcherInterface,
        now: Callable[[], datetime],
        run_sync: RunSync,
    ) -> None:
        self._metadata_dir = state_dir / "trust" / "metadata"
        self._targets_dir = state_dir / "trust" / "targets"
        self._mirror = Mirror(state_dir / "mirror")
        self.mirror = state_dir / "mirror"
        self._segment = segment
        self._site = site
        self._origin_url = origin_url
        self._origin_fetcher = origin_fetcher
        self._peer_fetcher = peer_fetcher
        self._now = now
        self._run_sync = run_sync
        self._known_good = KnownGood(state_dir / "trust" / "known-good")
        self._fetcher: FailFastFetcher | None = None
        self._client: TrustClient | None = None
        self._last: Trusted | None = None

    async def refresh(self, source: MetadataSource) -> Trusted:
        """Fetch, verify, and write what was verified into the mirror. Raises SigningError, StorageFailed."""
        fetcher, client = self._open(source)
        trusted: Trusted = await self._in_thread(self._refresh, client)
        self._fetcher, self._client, self._last = fetcher, client, trusted
        return trusted

    async def torrent(self, manifest: VerifiedManifest, transport_sha256: str | None = None) -> bytes:
        """The torrent for our segment, which `refresh` has fetched already. Raises SigningError, StorageFailed."""
        if self._client is None or self._fetcher is None:
            raise SourceUnavailable("no metadata is trusted yet")
        self._fetcher.forgive()
        torrent: bytes = await self._in_thread(self._client.torrent, manifest, self._segment, transport_sha256)
        return torrent

    async def _in_thread(self, read: Callable[..., T], *args: Any) -> T:
        try:
            return await self._run_sync(read, *args)
        except OSError as problem:  # errors of the network are DownloadErrors: this is our own disk
            raise StorageFailed(problem) from problem

    def _open(self, source: MetadataSource) -> tuple[FailFastFetcher, TrustClient]:
        metadata_url, targets_url = MIRROR_METADATA_URL, MIRROR_TARGETS_URL
        fetcher: FetcherInterface = DirectoryFetcher(self.mirror)
        if isinstance(source, FromOrigin):
            metadata_url, targets_url = f"{self._origin_url}/metadata/", f"{self._origin_url}/targets/"
            fetcher = with_news(
                self._origin_fetcher,
                metadata_url=metadata_url,
                targets_url=targets_url,
                timestamp_version=source.newest,
            )
        elif isinstance(source, FromPeer):
            fetcher, url = self._peer_fetcher, _url(source.endpoint)
            metadata_url, targets_url = f"{url}/metadata/", f"{url}/targets/"
        once = FailFastFetcher(fetcher)
        client = TrustClient(
            self._metadata_dir,
            self._targets_dir,
            once,
            metadata_url=metadata_url,
            targets_url=targets_url,
            now=self._now,
        )
        return once, client

    def _refresh(self, client: TrustClient) -> Trusted:
        """Read everything that concerns this endpoint, so that the mirror is whole for p2pd-install and the LAN."""
        client.refresh()
        recalls = client.recalls()
        reading = PatientReading(client, self._known_good)
        policy = reading.policy()
        segment_ca_pem = reading.segment_certificate(self._segment)
        schedule = reading.schedule(self._site)
        offers = schedule.offers if schedule is not None else ()
        manifests = reading.manifests(offers, self._segment, before=self._last)
        reading.store(self._mirror)
        return Trusted(
            timestamp_version=client.versions()["timestamp"],
            policy=policy,
            schedule=schedule,
            recalls=recalls,
            manifests=manifests,
            expiries=client.expiries(),
            segment_ca_pem=segment_ca_pem,
            general_problem=reading.general_problem,
            problems=tuple(reading.problems),
        )


def _url(endpoint: Endpoint) -> str:
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    return f"https://{host}:{endpoint.port}"
