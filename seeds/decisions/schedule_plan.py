# SPDX-License-Identifier: Apache-2.0
"""Which schedule each site should have now, and whether it is worth signing anew. Pure.

Of each product a site is offered its newest release. While that one is still going through the rings, or was halted
or withdrawn, the newest complete earlier release is offered too, so that an endpoint that joins late gets the last
version that proved itself instead of none.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from seeds.decisions.rollout_machine import by_age
from seeds.decisions.site_rates import published_weights, site_rates, weights
from seeds.records import Device, Measurement, Rollout, RolloutState
from signing.policy import Policy
from signing.reasons import Reason
from signing.schedule import Member, Offer, Schedule


def offered(rollouts: Iterable[Rollout]) -> tuple[Rollout, ...]:
    """The rollouts that schedules speak of, by product, newest first."""
    by_product: dict[str, list[Rollout]] = {}
    for rollout in rollouts:
        by_product.setdefault(rollout.product, []).append(rollout)
    chosen: list[Rollout] = []
    for _, releases in sorted(by_product.items()):
        chosen += _offered_of_product(sorted(releases, key=by_age, reverse=True))
    return tuple(chosen)


def _offered_of_product(newest_first: Sequence[Rollout]) -> list[Rollout]:
    # Without the withdrawn release in the schedule, its holders could not be told why nothing replaces it.
    chosen = [newest_first[0]]
    standing = [rollout for rollout in newest_first if rollout.state is not RolloutState.WITHDRAWN]
    if standing and standing[0] not in chosen and standing[0].state is not RolloutState.SUPERSEDED:
        chosen.append(standing[0])
    complete = [rollout for rollout in standing if rollout.state is RolloutState.COMPLETE]
    if complete and complete[0] not in chosen:
        chosen.append(complete[0])
    return chosen


def plan_schedules(
    policy: Policy,
    devices: Iterable[Device],
    rollouts: Iterable[Rollout],
    *,
    now: float,
    emptied: Iterable[str] = (),
    measurements: Iterable[Measurement] = (),
    published: Mapping[str, Schedule | None] = MappingProxyType({}),
) -> dict[str, Schedule]:
    """One schedule for every site that has an endpoint, and for those in `emptied`, by site.

    What `published` ones say of a site's links stands until the measurements clearly say something else.
    """
    members: dict[str, list[str]] = {site: [] for site in emptied}
    for device in devices:
        members.setdefault(device.site, []).append(device.device)
    releases = offered(rollouts)
    measured = {each.device: each for each in measurements}
    issued = int(now)
    planned: dict[str, Schedule] = {}
    for site, names in sorted(members.items()):
        standing, seen = published.get(site), [measured[name] for name in names if name in measured]
        weight = weights(names, seen, published_weights(standing))
        planned[site] = Schedule(
            site=site,
            policy_version=policy.version,
            issued=issued,
            expires=issued + int(policy.limits.schedule_seconds),
            members=tuple(Member(device=name, weight=weight[name]) for name in sorted(names)),
            offers=tuple(_offer(rollout, policy, frozenset(names)) for rollout in releases),
            rates=site_rates(seen, standing.rates if standing is not None else None),
        )
    return planned


def _offer(rollout: Rollout, policy: Policy, site_members: frozenset[str]) -> Offer:
    # Drafts of other sites are nobody's business here; membership of this site's endpoints does not depend on them.
    rings = len(policy.rings)
    return Offer(
        product=rollout.product,
        version=rollout.version,
        release_counter=rollout.release_counter,
        manifest_sha256=rollout.manifest_sha256,
        open_rings=rings if rollout.state is RolloutState.COMPLETE else min(rollout.open_rings, rings),
        halted=_halted(rollout),
        drafted=tuple(entry for entry in rollout.drafted if entry.device in site_members),
    )


def _halted(rollout: Rollout) -> Reason | None:
    match rollout.state:
        case RolloutState.HALTED:
            return rollout.reason or Reason.ROLLOUT_HALTED
        case RolloutState.WITHDRAWN:
            return Reason.WITHDRAWN
        case RolloutState.SUPERSEDED:
            return Reason.SUPERSEDED
        case RolloutState.WAITING | RolloutState.RUNNING | RolloutState.COMPLETE:
            return None


def needs_publishing(published: Schedule | None, wanted: Schedule, *, now: float) -> bool:
    """True when `wanted` says something else than `published`, apart from its times, or half of its life is gone."""
    if published is None:
        return True
    if replace(published, issued=wanted.issued, expires=wanted.expires) != wanted:
        return True
    half_life = published.issued + (published.expires - published.issued) / 2
    return now >= half_life or published.expires > wanted.expires
