# SPDX-License-Identifier: Apache-2.0
"""The manifest: everything that is true of one release, signed offline by the `patches` role."""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from signing.bounds import (
    MAX_COUNTER,
    MAX_PAYLOAD_BYTES,
    MAX_TEXT_CHARS,
    check_count,
    check_name,
    check_product,
    check_range,
    check_sha256,
    check_unique,
    check_version,
)

SMALL_BYTES = 65_536  # a transport of at most so many bytes travels without a torrent
MAX_DELTAS = 8
MAX_CVES = 200
MAX_SEGMENTS = 64
MAX_CHECKS = 16
MAX_ARGV = 32
MAX_REQUIREMENTS = 64
MAX_PROBATION_SECONDS = 7 * 86_400
MAX_CHECK_SECONDS = 300


class Severity(StrEnum):
    """How urgent the patch is, least first."""

    LOW = "low"
    MODERATE = "moderate"
    IMPORTANT = "important"
    CRITICAL = "critical"


@dataclass(frozen=True, kw_only=True)
class Content:
    """Bytes by what they are: SHA-256 (hex) and size in bytes."""

    sha256: str
    size: int

    def __post_init__(self) -> None:
        check_sha256("sha256", self.sha256)
        check_range("size", self.size, 1, MAX_PAYLOAD_BYTES)


@dataclass(frozen=True, kw_only=True)
class SegmentTorrent:
    """The BitTorrent v2 SSL torrent that carries a transport within one segment."""

    segment: str
    info_hash: str  # v2 info-hash: SHA-256 of the info dictionary, hex
    target: str  # TUF target path of the torrent file

    def __post_init__(self) -> None:
        check_name("segment", self.segment)
        check_sha256("info_hash", self.info_hash)
        check_count("target", self.target, 255, least=1)


@dataclass(frozen=True, kw_only=True)
class Transport:
    """One way for the payload to travel: the bytes on the wire, their codec, and how they come to which segments.

    Large ones have a torrent for each segment. One of at most SMALL_BYTES may have none: then `segments` says for whom
    it is, and peers hand it on whole (docs/decisions/0017).
    """

    codecs: ClassVar[tuple[str, ...]] = ("zstd",)

    codec: str  # "zstd": one zstd frame around the payload
    content: Content
    torrents: tuple[SegmentTorrent, ...]
    segments: tuple[str, ...] = ()  # without torrents only

    def __post_init__(self) -> None:
        if self.codec not in self.codecs:
            raise ValueError(f"codec {self.codec!r} is not known, must be {' or '.join(map(repr, self.codecs))}")
        check_count("torrents", self.torrents, MAX_SEGMENTS)
        check_unique("torrents", tuple(torrent.segment for torrent in self.torrents))
        check_count("segments", self.segments, MAX_SEGMENTS)
        check_unique("segments", self.segments)
        for segment in self.segments:
            check_name("segments", segment)
        if bool(self.torrents) == bool(self.segments):
            raise ValueError("a transport names either torrents or, if it is small, segments")
        if self.segments and self.content.size > SMALL_BYTES:
            raise ValueError(f"a transport of {self.content.size} bytes needs torrents, only {SMALL_BYTES} go without")


@dataclass(frozen=True, kw_only=True)
class Delta(Transport):
    """A transport that makes the payload out of another release's, `base`: the bytes are p2pd.host.delta_file's.

    It stands in a list of its own, so that agents which know nothing of deltas read the manifest and take the rest.
    """

    codecs: ClassVar[tuple[str, ...]] = ("hdiffpatch",)

    base: Content  # another release's payload, uncompressed

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("torrents", self.torrents, MAX_SEGMENTS, least=1)


@dataclass(frozen=True, kw_only=True)
class Applicability:
    """Where the release may run; an empty list means anywhere. Values as `platform.system()/machine()`, lower case."""

    systems: tuple[str, ...] = ()
    machines: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_count("systems", self.systems, 16)
        check_count("machines", self.machines, 16)


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """Another product that must be installed, at a release counter of at least `least_counter`."""

    product: str
    least_counter: int = 0

    def __post_init__(self) -> None:
        check_product("product", self.product)
        check_range("least_counter", self.least_counter, 0, MAX_COUNTER)


@dataclass(frozen=True, kw_only=True)
class CommandCheck:
    """Healthy when `argv` exits 0 in time. `{slot}` in an argument becomes the directory of the active slot."""

    kind: ClassVar[str] = "command"
    argv: tuple[str, ...]
    timeout_seconds: float = 30.0

    def __post_init__(self) -> None:
        check_count("argv", self.argv, MAX_ARGV, least=1)
        for argument in self.argv:
            check_count("argv item", argument, MAX_TEXT_CHARS)
        check_range("timeout_seconds", self.timeout_seconds, 0.1, MAX_CHECK_SECONDS)


@dataclass(frozen=True, kw_only=True)
class HttpCheck:
    """Healthy when a GET of `url` answers with `status` in time."""

    kind: ClassVar[str] = "http"
    url: str
    status: int = 200
    timeout_seconds: float = 10.0

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"url {self.url!r} must start with http:// or https://")
        check_count("url", self.url, MAX_TEXT_CHARS)
        check_range("status", self.status, 100, 599)
        check_range("timeout_seconds", self.timeout_seconds, 0.1, MAX_CHECK_SECONDS)


@dataclass(frozen=True, kw_only=True)
class TcpCheck:
    """Healthy when a TCP connection to `host`:`port` opens in time."""

    kind: ClassVar[str] = "tcp"
    host: str
    port: int
    timeout_seconds: float = 10.0

    def __post_init__(self) -> None:
        check_count("host", self.host, 253, least=1)
        check_range("port", self.port, 1, 65_535)
        check_range("timeout_seconds", self.timeout_seconds, 0.1, MAX_CHECK_SECONDS)


HealthCheck = CommandCheck | HttpCheck | TcpCheck


@dataclass(frozen=True, kw_only=True)
class HealthPlan:
    """How health is judged: every check passes throughout probation, or the release goes back."""

    checks: tuple[CommandCheck | HttpCheck | TcpCheck, ...] = ()
    probation_seconds: float = 60.0
    interval_seconds: float = 10.0
    failures_allowed: int = 0  # consecutive failures of one check that are still forgiven

    def __post_init__(self) -> None:
        check_count("checks", self.checks, MAX_CHECKS)
        check_range("probation_seconds", self.probation_seconds, 0, MAX_PROBATION_SECONDS)
        check_range("interval_seconds", self.interval_seconds, 0.1, 3_600)
        check_range("failures_allowed", self.failures_allowed, 0, 10)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """One release of one product."""

    document: ClassVar[str] = "p2pd.manifest"
    major: ClassVar[int] = 1
    minor: ClassVar[int] = 1
    max_bytes: ClassVar[int] = 262_144

    product: str
    version: str
    release_counter: int  # orders releases of a product; a version string never does
    payload: Content  # the deterministic tar, uncompressed
    transports: tuple[Transport, ...]
    severity: Severity = Severity.MODERATE
    cves: tuple[str, ...] = ()
    summary: str = ""
    applicability: Applicability = Applicability()
    depends: tuple[Requirement, ...] = ()
    conflicts: tuple[str, ...] = ()
    installer: str = "slot"  # entry point in the group `p2pd.installers`
    health: HealthPlan = HealthPlan()
    oldest_fallback: int = 0  # release counter below which this release must not be rolled back to
    deltas: tuple[Delta, ...] = ()

    def __post_init__(self) -> None:
        check_product("product", self.product)
        check_version("version", self.version)
        check_range("release_counter", self.release_counter, 1, MAX_COUNTER)
        check_count("transports", self.transports, 8, least=1)
        check_count("cves", self.cves, MAX_CVES)
        for cve in self.cves:
            check_count("cve", cve, 32, least=1)
        check_count("summary", self.summary, MAX_TEXT_CHARS)
        check_count("depends", self.depends, MAX_REQUIREMENTS)
        check_count("conflicts", self.conflicts, MAX_REQUIREMENTS)
        for product in self.conflicts:
            check_product("conflicts", product)
        check_name("installer", self.installer)
        check_range("oldest_fallback", self.oldest_fallback, 0, MAX_COUNTER)
        check_count("deltas", self.deltas, MAX_DELTAS)
        check_unique("deltas", (self.payload.sha256, *(delta.base.sha256 for delta in self.deltas)))
        others = {torrent.target for transport in self.transports for torrent in transport.torrents}
        check_unique("deltas' torrents", (*others, *(t.target for delta in self.deltas for t in delta.torrents)))

    @property
    def all_transports(self) -> tuple[Transport, ...]:
        """Those that stand alone, then the deltas."""
        return (*self.transports, *self.deltas)

    def torrents_for(self, segment: str) -> tuple[tuple[Transport, SegmentTorrent], ...]:
        """Every transport that travels by torrent within `segment`, deltas last."""
        return tuple(
            (way, torrent) for way in self.all_transports for torrent in way.torrents if torrent.segment == segment
        )

    @property
    def target(self) -> str:
        """The TUF target path under which this manifest is signed."""
        return manifest_target(self.product, self.version)

    def torrent_for(self, segment: str) -> tuple[Transport, SegmentTorrent] | None:
        """The transport and torrent that an endpoint of `segment` may use, or None."""
        for transport in self.transports:
            for torrent in transport.torrents:
                if torrent.segment == segment:
                    return transport, torrent
        return None

    def small_for(self, segment: str) -> Transport | None:
        """The transport without a torrent that an endpoint of `segment` may use, or None."""
        return next((transport for transport in self.transports if segment in transport.segments), None)

    def is_for(self, segment: str) -> bool:
        """Whether any transport reaches endpoints of `segment`."""
        return self.torrent_for(segment) is not None or self.small_for(segment) is not None

    @property
    def segments(self) -> tuple[str, ...]:
        """All segments that it can reach, sorted."""
        named = {torrent.segment for transport in self.transports for torrent in transport.torrents}
        return tuple(sorted(named.union(*(transport.segments for transport in self.transports))))


def manifest_target(product: str, version: str) -> str:
    """TUF target path of a release's manifest."""
    return f"patches/{product}/{version}/manifest"


def torrent_target(product: str, version: str, segment: str, *, base_sha256: str = "") -> str:
    """TUF target path of a release's torrent for one segment: of the delta from that payload, if one is named."""
    name = f"{segment}.from-{base_sha256[:16]}" if base_sha256 else segment
    return f"patches/{product}/{version}/{name}.torrent"
