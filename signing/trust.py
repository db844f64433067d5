# SPDX-License-Identifier: Apache-2.0
"""The one trust client: verified targets out of any TUF repository, through any fetcher of bytes.

The daemon, the privileged installer and `p2pd trust` all run this class; they differ in the fetcher alone (HTTPS, a
LAN peer, a directory). All deciding is python-tuf's; this adds a root that cannot be lost, our clock, our limits,
durability, and errors by whose fault they are.

- Reads answer from the last refresh that succeeded in this object's life; before one they raise SourceUnavailable.
  A refresh that fails changes nothing of what reads answer, so an unreachable or hostile source takes nothing away.
  Delegated roles are loaded by the first read that needs them and fail alone: broken `patches` block no recall.
  To start without a network, refresh over a `DirectoryFetcher` of the own mirror.
- Expiry is judged at the instant of the refresh. `check_fresh` judges it now; ask it before anything new is installed.
- Several clients may share a metadata directory, one after another (the origin, then a peer): what one has seen
  protects the next from rollback. Two must not run at once.
- Synchronous and not for several threads at once: a daemon runs it in a worker thread.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from tuf.api.exceptions import DownloadError
from tuf.api.metadata import Snapshot, TargetFile, Targets, Timestamp
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from signing.bounds import check_name, check_product, check_version
from signing.codec import Document, decode
from signing.durable_file import flush
from signing.errors import BadInput, ContentMismatch, NotListed, SourceUnavailable
from signing.manifest import Manifest, manifest_target
from signing.many_targets import MAX_NAMES, MAX_TARGET_BYTES, ManyAtOnceFetcher
from signing.policy import POLICY_TARGET, Policy
from signing.recall import RECALL_TARGET, RecallList
from signing.schedule import Schedule, schedule_target
from signing.target_cache import TargetCache
from signing.trust_anchor import MAX_ROOT_BYTES, TrustAnchor
from signing.trusted_state import TrustedState
from signing.tuf_errors import blamed
from signing.verified import VerifiedManifest, VerifiedPayload, open_manifest, reopen_committed, verify_payload

__all__ = ["TrustClient", "VerifiedManifest", "VerifiedPayload", "reopen_committed", "verify_payload"]

MAX_ROOT_ROTATIONS = 256  # new roots followed in one refresh; the next refresh goes on where this one stopped
MAX_DELEGATIONS = 32  # roles visited in one look-up; our repositories have five
MAX_TIMESTAMP_BYTES = 16_384
MAX_SNAPSHOT_BYTES = 2_000_000  # where the timestamp does not give the length
MAX_TARGETS_BYTES = 5_000_000  # where the snapshot does not give the length: about 15,000 targets
MAX_TORRENT_BYTES = 16 * 2**20  # piece hashes of the largest payload (64 GiB in 256 KiB pieces) take 8 MiB
MAX_CERTIFICATE_BYTES = 65_536

D = TypeVar("D", bound=Document)


class TrustClient:
    """Verified reads from one TUF repository. See the module's contract."""

    def __init__(
        self,
        metadata_dir: Path,
        targets_dir: Path,
        fetcher: FetcherInterface,
        *,
        metadata_url: str,
        targets_url: str,
        now: Callable[[], datetime],
    ) -> None:
        self.metadata_dir = metadata_dir
        self.cache = TargetCache(targets_dir)
        self._anchor = TrustAnchor(metadata_dir)
        self._fetcher = fetcher
        self._metadata_url = metadata_url
        self._targets_url = targets_url
        self._now = now
        self._refreshed: Updater | None = None

    @staticmethod
    def bootstrap(metadata_dir: Path, root: bytes) -> None:
        """Trust `root` in `metadata_dir`, which is made if need be; again with the same bytes changes nothing.

        Raises BadInput (no root metadata; another root is trusted there), NotSigned (not by a threshold of its own
        keys) and OSError.
        """
        metadata_dir.mkdir(parents=True, exist_ok=True)
        TrustAnchor(metadata_dir).establish(root)

    def refresh(self) -> None:
        """Bring the metadata up to date; afterwards all reads are of one consistent snapshot.

        Raises Expired, NotSigned, RolledBack, ContentMismatch, Untrusted, BadInput, SourceUnavailable, and OSError
        when the metadata directory cannot be written. Roots that were verified before the failure stay trusted.
        """
        updater = self._open_updater()
        try:
            with blamed(self._metadata_url):
                updater.refresh()
        finally:
            self._anchor.advance(self._root_version(updater))
        self._make_durable()
        self._refreshed = updater

    def read_target(self, path: str, *, max_bytes: int) -> bytes:
        """The verified content of the target `path`; a cached file that has the signed hashes is not fetched again.

        Raises NotListed, BadInput when it is signed to be larger than `max_bytes`, and what `refresh` raises.
        """
        target = self._find(path)
        if target.length > max_bytes:
            raise BadInput(path, f"is {target.length} bytes, at most {max_bytes} are read")
        data = self.cache.read(target)
        if data is None:
            self._fetch(target, self.cache)
            data = self.cache.read(target)
        if data is None:
            raise ContentMismatch(path, expected="the file just verified", actual="a file that another process changed")
        return data

    def download(self, path: str, into: Path) -> Path:
        """Put the verified target `path` into the directory `into`, under its URL-quoted path; return the file.

        A file that is there and has the signed hashes is not fetched again. Raises as `read_target` does.
        """
        target, cache = self._find(path), TargetCache(into)
        file = cache.find(target)
        return file if file is not None else self._fetch(target, cache)

    def manifest(self, product: str, version: str) -> VerifiedManifest:
        """The signed manifest of a release. Raises as `read_target` does, and when it describes another release."""
        _check(check_product, "product", product)
        _check(check_version, "version", version)
        path = manifest_target(product, version)
        data = self.read_target(path, max_bytes=Manifest.max_bytes)
        sha256 = self._find(path).hashes.get("sha256")
        if sha256 is None:
            raise BadInput(path, "is signed without a SHA-256", "publish it again with this p2pd's `p2pctl`")
        verified = open_manifest(data, sha256=sha256, where=path)
        if (verified.manifest.product, verified.manifest.version) != (product, version):
            found = f"{verified.manifest.product} {verified.manifest.version}"
            raise ContentMismatch(path, expected=f"the manifest of {product} {version}", actual=f"that of {found}")
        return verified

    def prefetch_manifests(self, releases: Iterable[tuple[str, str]]) -> None:
        """Bring the manifests of releases (product, version) that are not here yet, many in a request.

        From a source that cannot do that, nothing; and what is wrong or missing is met when it is read. Raises what
        loading the role that lists them raises, and OSError.
        """
        if not isinstance(self._fetcher, ManyAtOnceFetcher) or not self.state().is_consistent:
            return
        missing = {target.get_prefixed_paths()[0]: target for target in self._not_here(releases)}
        names = list(missing)
        while len(names) > 1:
            try:
                brought = self._fetcher.fetch_many(self._targets_url, names[:MAX_NAMES])
            except DownloadError:
                return
            for name, data in zip(names, brought, strict=False):
                self.cache.keep(missing[name], data)
            if not brought:
                return
            names = names[len(brought) :]

    def _not_here(self, releases: Iterable[tuple[str, str]]) -> Iterator[TargetFile]:
        for product, version in releases:
            try:
                target = self._find(manifest_target(product, version))
            except NotListed:
                continue
            if target.length <= MAX_TARGET_BYTES and not self.cache.path(target).is_file():
                yield target

    def policy(self) -> Policy:
        """The signed policy of the fleet."""
        return self._document(Policy, POLICY_TARGET)

    def holds(self, manifest: VerifiedManifest) -> bool:
        """Whether these very bytes are what is signed now, and lie in the cache, so that nothing is to be read anew."""
        try:
            target = self._find(manifest.manifest.target)
        except NotListed:
            return False
        is_same = target.hashes.get("sha256") == manifest.sha256 and target.length == len(manifest.data)
        return is_same and self.cache.path(target).is_file()

    def schedule(self, site: str) -> Schedule:
        """The signed schedule of a site. Raises NotListed when there is none, and when it is another site's."""
        _check(check_name, "site", site)
        schedule = self._document(Schedule, schedule_target(site))
        if schedule.site != site:
            raise ContentMismatch(schedule_target(site), expected=f"site {site}", actual=f"site {schedule.site}")
        return schedule

    def recalls(self) -> RecallList:
        """The signed list of withdrawn releases."""
        return self._document(RecallList, RECALL_TARGET)

    def torrent(self, manifest: VerifiedManifest, segment: str, transport_sha256: str | None = None) -> bytes:
        """The torrent that carries a release within `segment`, by that transport or, without one named, by the full.

        Raises NotListed when the release has no such torrent.
        """
        for transport, torrent in manifest.manifest.torrents_for(segment):
            if transport_sha256 in (None, transport.content.sha256):
                return self.read_target(torrent.target, max_bytes=MAX_TORRENT_BYTES)
        raise NotListed(f"{manifest.manifest.target}: carries no torrent for segment {segment!r}")

    def segment_certificate(self, segment: str) -> bytes:
        """The PEM certificate of a segment's issuing authority."""
        _check(check_name, "segment", segment)
        return self.read_target(f"trust/{segment}.pem", max_bytes=MAX_CERTIFICATE_BYTES)

    def versions(self) -> dict[str, int]:
        """The version of every role loaded so far."""
        return self.state().versions()

    def expiries(self) -> dict[str, datetime]:
        """When every role loaded so far expires, UTC."""
        return self.state().expiries()

    def check_fresh(self) -> None:
        """Raise Expired when a role loaded so far has expired by now: nothing new may be installed then."""
        self.state().check_fresh(self._now())

    def prune_cache(self) -> None:
        """Delete cached targets that are listed no more; does nothing while some role has not been loaded."""
        state = self.state()
        if state.is_complete():
            self.cache.prune([target.path for target in state.listed()])

    def state(self) -> TrustedState:
        """What is trusted since the last refresh that succeeded. Raises SourceUnavailable before the first."""
        return TrustedState(self._updater(), self.metadata_dir)

    def _open_updater(self) -> Updater:
        root = self._anchor.load()
        with blamed(str(self._anchor.path)):
            updater = Updater(
                str(self.metadata_dir), self._metadata_url, fetcher=self._fetcher, config=_limits(), bootstrap=root
            )
        # The updater reads the wall clock in its constructor and has no other way to be told the time; ours has a
        # floor, so that a clock set back does not revive expired metadata.
        updater._trusted_set.reference_time = self._now()  # noqa: SLF001
        return updater

    def _updater(self) -> Updater:
        if self._refreshed is None:
            raise SourceUnavailable(f"{self._metadata_url}: no metadata is trusted yet; a refresh must succeed first")
        return self._refreshed

    def _find(self, path: str) -> TargetFile:
        with blamed(path):
            target = self._updater().get_targetinfo(path)
        if target is None:
            raise NotListed(f"{path}: no trusted role signs a target of this name")
        return target

    def _fetch(self, target: TargetFile, cache: TargetCache) -> Path:
        with cache.replacing(target) as partial, blamed(target.path):
            self._updater().download_target(target, str(partial), self._targets_url)
        return cache.path(target)

    def _document(self, cls: type[D], path: str) -> D:
        return decode(cls, self.read_target(path, max_bytes=cls.max_bytes), where=path)

    def _make_durable(self) -> None:
        # The updater renames without fsync: after a power cut an empty file would have forgotten which versions
        # were seen, and with them the protection from rollback.
        for role in (Timestamp.type, Snapshot.type, Targets.type):
            flush(self.metadata_dir / f"{role}.json")
        flush(self.metadata_dir)

    @staticmethod
    def _root_version(updater: Updater) -> int:
        version: int = updater._trusted_set.root.version  # noqa: SLF001 (shown nowhere else, also after a failure)
        return version


def _limits() -> UpdaterConfig:
    return UpdaterConfig(
        max_root_rotations=MAX_ROOT_ROTATIONS,
        max_delegations=MAX_DELEGATIONS,
        root_max_length=MAX_ROOT_BYTES,
        timestamp_max_length=MAX_TIMESTAMP_BYTES,
        snapshot_max_length=MAX_SNAPSHOT_BYTES,
        targets_max_length=MAX_TARGETS_BYTES,
    )


def _check(check: Callable[[str, str], None], field: str, value: str) -> None:
    try:
        check(field, value)
    except ValueError as problem:
        raise BadInput(field, str(problem)) from None
