# SPDX-License-Identifier: Apache-2.0
"""Whether this endpoint may install a release now; if not, the reason. Pure: all facts are arguments."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from signing.manifest import Manifest
from signing.policy import Policy
from signing.reasons import Reason
from signing.recall import RecallList
from signing.schedule import Draft, Offer, Schedule

CLOCK_SLACK_SECONDS = 300  # a schedule issued by a coordinator whose clock runs a little ahead


@dataclass(frozen=True, kw_only=True)
class Installed:
    """What is active here for one product."""

    version: str
    release_counter: int
    manifest_sha256: str


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """The facts of this endpoint that eligibility depends on."""

    device: str
    segment: str
    system: str
    machine: str
    installers: frozenset[str]
    installed: Mapping[str, Installed]
    quarantined: frozenset[str]  # manifest digests that failed here


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why not, with what a person needs to know beyond the code's own sentence."""

    reason: Reason
    detail: str = ""


def check_schedule(schedule: Schedule, policy: Policy, *, now: int) -> Refusal | None:
    """Whether the online-signed schedule stays within the offline-signed policy. None: it does."""
    outside = Reason.SCHEDULE_OUTSIDE_POLICY
    if schedule.policy_version != policy.version:
        return Refusal(
            reason=outside, detail=f"made for policy version {schedule.policy_version}, here is {policy.version}"
        )
    if schedule.expires - schedule.issued > policy.limits.schedule_seconds:
        return Refusal(reason=outside, detail="lives longer than the policy allows")
    if schedule.issued > now + CLOCK_SLACK_SECONDS:
        return Refusal(
            reason=outside,
            detail=f"issued {_duration(schedule.issued - now)} ahead of this device's clock, which may be wrong; "
            "set the clock of the device, or that of the coordinator",
        )
    if schedule.expires <= now:
        return Refusal(reason=Reason.METADATA_EXPIRED, detail="the schedule has expired")
    for offer in schedule.offers:
        if offer.open_rings > len(policy.rings):
            return Refusal(reason=outside, detail=f"opens a ring that the policy does not have ({offer.product})")
        for index, ring in enumerate(policy.rings):
            drafted = sum(draft.ring == index for draft in offer.drafted)
            if drafted > ring.at_least:
                return Refusal(
                    reason=outside,
                    detail=f"drafts {drafted} devices into ring {ring.name!r}, the policy allows {ring.at_least}",
                )
    return None


def _duration(seconds: int) -> str:
    """In words for people: the two largest units."""
    units = ((86_400, "days"), (3_600, "h"), (60, "min"), (1, "s"))
    largest = next((index for index, (size, _) in enumerate(units) if seconds >= size), len(units) - 1)
    words = []
    for size, unit in units[largest : largest + 2]:
        count, seconds = divmod(seconds, size)
        words += [f"{count} {unit}"] if count else []
    return " ".join(words)


def check_freshness(expiries: Mapping[str, datetime], *, now: datetime) -> Refusal | None:
    """Whether all signed metadata is within its life. None: it is."""
    for role, expires in sorted(expiries.items(), key=lambda item: item[1]):
        if expires <= now:
            return Refusal(reason=Reason.METADATA_EXPIRED, detail=f"{role} expired at {expires:%Y-%m-%d %H:%M} UTC")
    return None


def ring_is_open(device: str, offer: Offer, policy: Policy) -> bool:
    """Whether the ring of `device` may install this offer."""
    return policy.ring_of(device, _drafts(offer.drafted)) < offer.open_rings


def judge(
    manifest: Manifest, offer: Offer, *, endpoint: Endpoint, policy: Policy, recalls: RecallList
) -> Refusal | None:
    """Whether `endpoint` may install `manifest` as offered. None: it may; else the first reason, gravest first."""
    recall = recalls.withdraws(offer.manifest_sha256)
    if recall is not None:
        return Refusal(reason=Reason.RECALLED, detail=recall.why)
    if offer.manifest_sha256 in endpoint.quarantined:
        return Refusal(reason=Reason.QUARANTINED)
    refusal = _against_installed(manifest, offer, endpoint) or _against_platform(manifest, endpoint)
    if refusal is not None:
        return refusal
    if offer.halted is not None:
        return Refusal(reason=Reason.ROLLOUT_HALTED, detail=offer.halted.value)
    if not ring_is_open(endpoint.device, offer, policy):
        ring = policy.rings[policy.ring_of(endpoint.device, _drafts(offer.drafted))].name
        return Refusal(reason=Reason.RING_NOT_OPEN, detail=f"this endpoint is in ring {ring!r}")
    return _against_requirements(manifest, endpoint)


def _against_installed(manifest: Manifest, offer: Offer, endpoint: Endpoint) -> Refusal | None:
    active = endpoint.installed.get(manifest.product)
    if active is None:
        return None
    if active.manifest_sha256 == offer.manifest_sha256:
        return Refusal(reason=Reason.ALREADY_INSTALLED)
    if active.release_counter >= manifest.release_counter:
        return Refusal(
            reason=Reason.OLDER_THAN_INSTALLED,
            detail=f"{active.version} (counter {active.release_counter}) is installed",
        )
    if active.release_counter < manifest.oldest_fallback:
        return Refusal(
            reason=Reason.FALLBACK_FORBIDDEN,
            detail=f"it may not fall back below counter {manifest.oldest_fallback}, here is {active.release_counter}",
        )
    return None


def _against_platform(manifest: Manifest, endpoint: Endpoint) -> Refusal | None:
    where = manifest.applicability
    if where.systems and endpoint.system not in where.systems:
        return Refusal(reason=Reason.PLATFORM_MISMATCH, detail=f"it is for {', '.join(where.systems)}")
    if where.machines and endpoint.machine not in where.machines:
        return Refusal(reason=Reason.PLATFORM_MISMATCH, detail=f"it is for {', '.join(where.machines)}")
    if not manifest.is_for(endpoint.segment):
        return Refusal(reason=Reason.OTHER_SEGMENT, detail=f"this endpoint is in segment {endpoint.segment!r}")
    if manifest.installer not in endpoint.installers:
        return Refusal(reason=Reason.INSTALLER_UNKNOWN, detail=manifest.installer)
    return None


def _against_requirements(manifest: Manifest, endpoint: Endpoint) -> Refusal | None:
    for requirement in manifest.depends:
        present = endpoint.installed.get(requirement.product)
        if present is None or present.release_counter < requirement.least_counter:
            return Refusal(reason=Reason.DEPENDENCY_MISSING, detail=requirement.product)
    for product in manifest.conflicts:
        if product in endpoint.installed:
            return Refusal(reason=Reason.CONFLICT_INSTALLED, detail=product)
    return None


def _drafts(drafted: tuple[Draft, ...]) -> tuple[tuple[str, int], ...]:
    return tuple((draft.device, draft.ring) for draft in drafted)
