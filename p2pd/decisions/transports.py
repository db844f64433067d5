# SPDX-License-Identifier: Apache-2.0
"""By which of its transports this endpoint gets a release: the smallest that it can use. Pure: all facts are arguments.

An endpoint that has nothing to build upon takes the full one, as everybody did before there were deltas. One that has
the release which a delta was made for, and cannot use it all the same, costs the full one's bytes though nobody
reckoned with them: that is a fallback, and the signed policy says whether it may.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from p2pd.decisions.eligibility import Refusal
from signing.manifest import Delta, Manifest, SegmentTorrent, Transport
from signing.policy import DeltaFallback, Limits
from signing.reasons import Reason

PATIENCE_SECONDS = 120.0  # without a piece of a delta, while somebody here has what can be taken instead
REFUSED_SECONDS = 600.0  # the same, while the origin refuses it: errors in a row may be those of an overloaded origin,
# which whole payloads would overload for good


@dataclass(frozen=True, kw_only=True)
class Holdings:
    """What this endpoint has to build upon: payloads by their SHA-256."""

    readable: frozenset[str] = frozenset()  # whose bytes lie on disk
    installed: frozenset[str] = frozenset()  # of the releases that p2pd-install has in use, wherever the bytes are
    unusable: Mapping[str, Refusal] = field(default_factory=dict)  # deltas, by SHA-256, that failed here, and why


@dataclass(frozen=True, kw_only=True)
class Way:
    """The transport to use. `instead_of`: why no delta is used, though one was made for what is here."""

    transport: Transport
    torrent: SegmentTorrent
    instead_of: Refusal | None = None

    @property
    def delta(self) -> Delta | None:
        """The transport, if it is a delta."""
        return self.transport if isinstance(self.transport, Delta) else None


def choose_way(manifest: Manifest, segment: str, *, holdings: Holdings, limits: Limits) -> Way | Refusal | None:
    """The smallest usable transport that has a torrent for `segment`; None when none has.

    A refusal says that only the full transport is left, and that the policy does not let it take a delta's place.
    """
    full = manifest.torrent_for(segment)
    if full is None:
        return None
    whole, torrent = full
    smaller = [
        (way, carried)
        for way, carried in manifest.torrents_for(segment)
        if isinstance(way, Delta) and way.content.size < whole.content.size
    ]
    usable = [
        (way, carried)
        for way, carried in smaller
        if way.base.sha256 in holdings.readable and way.content.sha256 not in holdings.unusable
    ]
    if usable:
        delta, carried = min(usable, key=lambda found: (found[0].content.size, found[0].content.sha256))
        return Way(transport=delta, torrent=carried)
    spoiled = next((refusal for way, _ in smaller if (refusal := _spoiled(way, holdings)) is not None), None)
    refusal = None if spoiled is None else _against_fallback(whole, spoiled, limits)
    return refusal or Way(transport=whole, torrent=torrent, instead_of=spoiled)


@dataclass(frozen=True, kw_only=True)
class Prospects:
    """How a delta comes along, and what there is instead."""

    idle: float  # seconds since its last piece came, from whomever
    is_refused: bool  # by the origin, since then
    is_announced: bool  # what would be chosen instead, by an endpoint of this site


def why_give_up(prospects: Prospects) -> Refusal | None:
    """Why another transport had better be fetched; None as long as the delta may still come.

    While the origin only is away nothing else comes from there either, and the delta costs the least when it is back.
    """
    how_long = f"no piece of it for {prospects.idle:.0f} s"
    if prospects.is_announced and prospects.idle >= PATIENCE_SECONDS:
        return Refusal(reason=Reason.DELTA_OUT_OF_REACH, detail=f"{how_long}; another transport is here at the site")
    if prospects.is_refused and prospects.idle >= REFUSED_SECONDS:
        return Refusal(reason=Reason.DELTA_OUT_OF_REACH, detail=f"{how_long}; the origin refuses it")
    return None


def seconds_to_judgement(idle: float) -> float:
    """How long `why_give_up` stays as it is, if nothing but time passes; a little longer, never a rounding error."""
    return next((due - idle for due in (PATIENCE_SECONDS, REFUSED_SECONDS) if idle < due), PATIENCE_SECONDS) + 1.0


def _spoiled(delta: Delta, holdings: Holdings) -> Refusal | None:
    """Why a delta that was made for what is here is of no use. None: it was made for something else."""
    failed = holdings.unusable.get(delta.content.sha256)
    if failed is not None:
        return failed
    if delta.base.sha256 in holdings.installed and delta.base.sha256 not in holdings.readable:
        detail = f"the payload {delta.base.sha256} is installed, but its bytes are not kept here any more"
        return Refusal(reason=Reason.DELTA_BASE_DIFFERS, detail=detail)
    return None


def _against_fallback(whole: Transport, spoiled: Refusal, limits: Limits) -> Refusal | None:
    why = f"{spoiled.reason.value}: {spoiled.detail}"
    if limits.delta_fallback is DeltaFallback.NEVER:
        return Refusal(reason=Reason.DELTA_FALLBACK_FORBIDDEN, detail=why)
    if limits.delta_fallback is DeltaFallback.BUDGET and whole.content.size > limits.delta_fallback_bytes:
        budget = f"{whole.content.size} bytes, the budget is {limits.delta_fallback_bytes}"
        return Refusal(reason=Reason.DELTA_FALLBACK_OVER_BUDGET, detail=f"{budget}; {why}")
    return None
