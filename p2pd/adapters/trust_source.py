# SPDX-License-Identifier: Apache-2.0
"""The trust client as the daemon uses it: in a worker thread, over the origin, a LAN peer, or its own mirror."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from tuf.ngclient import FetcherInterface

from p2pd.host.telemetry import log
from p2pd.ports import Endpoint
from p2pd.ports_control import FromOrigin, FromPeer, MetadataSource, RunSync, Trusted
from signing.errors import BadInput, NotListed, SigningError, SourceUnavailable
from signing.mirror import MIRROR_METADATA_URL, MIRROR_TARGETS_URL, DirectoryFetcher, Mirror
from signing.schedule import Schedule
from signing.trust import TrustClient
from signing.verified import VerifiedManifest

_log = log(__name__)


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
        self._client: TrustClient | None = None

    async def refresh(self, source: MetadataSource) -> Trusted:
        """Fetch, verify, and write what was verified into the mirror. Raises SigningError."""
        client = self._open(source)
        trusted: Trusted = await self._run_sync(self._refresh, client)
        self._client = client
        return trusted

    async def torrent(self, manifest: VerifiedManifest) -> bytes:
        """The torrent for our segment; `refresh` has fetched it with the manifest. Raises SigningError."""
        if self._client is None:
            raise SourceUnavailable("no metadata is trusted yet")
        torrent: bytes = await self._run_sync(self._client.torrent, manifest, self._segment)
        return torrent

    def _open(self, source: MetadataSource) -> TrustClient:
        metadata_url, targets_url = MIRROR_METADATA_URL, MIRROR_TARGETS_URL
        fetcher: FetcherInterface = DirectoryFetcher(self.mirror)
        if isinstance(source, FromOrigin):
            fetcher = self._origin_fetcher
            metadata_url, targets_url = f"{self._origin_url}/metadata/", f"{self._origin_url}/targets/"
        elif isinstance(source, FromPeer):
            fetcher, url = self._peer_fetcher, _url(source.endpoint)
            metadata_url, targets_url = f"{url}/metadata/", f"{url}/targets/"
        return TrustClient(
            self._metadata_dir,
            self._targets_dir,
            fetcher,
            metadata_url=metadata_url,
            targets_url=targets_url,
            now=self._now,
        )

    def _refresh(self, client: TrustClient) -> Trusted:
        """Read everything that concerns this endpoint, so that the mirror is whole for p2pd-install and the LAN."""
        client.refresh()
        policy, recalls = client.policy(), client.recalls()
        segment_ca_pem = client.segment_certificate(self._segment)
        schedule = self._schedule(client)
        manifests = self._manifests(client, schedule)
        self._mirror.publish(client)
        client.prune_cache()
        return Trusted(
            timestamp_version=client.versions()["timestamp"],
            policy=policy,
            schedule=schedule,
            recalls=recalls,
            manifests=manifests,
            expiries=client.expiries(),
            segment_ca_pem=segment_ca_pem,
        )

    def _schedule(self, client: TrustClient) -> Schedule | None:
        try:
            return client.schedule(self._site)
        except NotListed:
            return None

    def _manifests(self, client: TrustClient, schedule: Schedule | None) -> tuple[VerifiedManifest, ...]:
        """The offered releases that can be read; one that cannot is left out and said, it must not stop the others."""
        manifests = []
        for offer in schedule.offers if schedule is not None else ():
            try:
                manifest = client.manifest(offer.product, offer.version)
                if manifest.sha256 != offer.manifest_sha256:
                    raise BadInput(manifest.manifest.target, "is not the manifest that the schedule names")
                if manifest.manifest.torrent_for(self._segment) is not None:
                    client.torrent(manifest, self._segment)
            except SourceUnavailable:
                raise
            except SigningError as problem:
                _log.warning("offer unreadable", product=offer.product, version=offer.version, why=str(problem))
            else:
                manifests.append(manifest)
        return tuple(manifests)


def _url(endpoint: Endpoint) -> str:
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    return f"https://{host}:{endpoint.port}"
