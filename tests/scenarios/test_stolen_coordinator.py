# SPDX-License-Identifier: Apache-2.0
"""A thief has the coordinator and its online keys, and none of the offline ones: endpoints keep to what those signed."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from signing.reasons import Reason
from signing.schedule import Draft, Offer, Schedule
from tests.simulator.world import SITE, World

MISUSES: dict[str, Callable[[Schedule], Schedule]] = {
    "opens more rings than there are": lambda schedule: with_offers(schedule, open_rings=3),
    "drafts everybody into the canary": lambda schedule: with_offers(
        schedule, drafted=tuple(Draft(device=member.device, ring=0) for member in schedule.members)
    ),
    "lives longer": lambda schedule: replace(schedule, expires=schedule.issued + 10 * 86_400),
    "comes from the future": lambda schedule: replace(
        schedule, issued=schedule.issued + 3_600, expires=schedule.expires + 3_600
    ),
    "goes by another policy": lambda schedule: replace(schedule, policy_version=schedule.policy_version + 1),
}


def with_offers(schedule: Schedule, **changes: object) -> Schedule:
    return replace(schedule, offers=tuple(replace(offer, **changes) for offer in schedule.offers))  # type: ignore[arg-type]  # changes are fields of Offer


@pytest.mark.parametrize("misuse", MISUSES)
async def test_a_schedule_outside_the_policy_is_refused(world: World, misuse: str) -> None:
    endpoints = await world.enrol(3)
    world.payload_uplink.cut()  # nobody has installed anything when the coordinator is stolen
    release = world.release("1.0")
    await world.until(lambda: any(endpoint.attempt is not None for endpoint in endpoints))
    world.coordinator.stop()
    schedule = replace(world.coordinator.schedule_of(SITE), issued=int(world.unix()))
    world.coordinator.misuse_keys(MISUSES[misuse](schedule))
    world.payload_uplink.mend()
    await world.pass_time(300)
    assert not any(endpoint.installer.asked_for for endpoint in endpoints)
    canary = world.canary_of(release)
    assert await canary.why(release) is Reason.SCHEDULE_OUTSIDE_POLICY
    await world.revive_coordinator()
    await world.all_committed(release)


async def test_a_release_that_the_release_keys_never_signed_does_not_exist(world: World) -> None:
    world.open_all_rings()
    endpoints = await world.enrol(2)
    good = world.release("1.0")
    await world.completed(good)
    world.coordinator.stop()
    schedule = world.coordinator.schedule_of(SITE)
    (offer,) = schedule.offers
    forged = replace(offer, version="6.6", release_counter=66, manifest_sha256="6" * 64)
    swapped = replace(offer, manifest_sha256="7" * 64)
    world.coordinator.misuse_keys(replace(schedule, issued=int(world.unix()), offers=(forged, swapped)))
    await world.pass_time(400)
    assert [endpoint.installer.asked_for for endpoint in endpoints] == [["1.0"]] * 2
    assert [endpoint.version for endpoint in endpoints] == ["1.0"] * 2


async def test_nobody_goes_back_to_an_older_release_on_its_word(world: World) -> None:
    world.open_all_rings()
    endpoints = await world.enrol(2)
    older = world.release("1.0")
    await world.completed(older)
    offer_of_older = world.coordinator.schedule_of(SITE).offers
    newer = world.release("2.0")
    await world.completed(newer)
    world.coordinator.stop()
    world.coordinator.misuse_keys(
        replace(world.coordinator.schedule_of(SITE), issued=int(world.unix()), offers=offer_of_older)
    )
    await world.pass_time(400)
    assert [endpoint.version for endpoint in endpoints] == ["2.0"] * 2
    assert [await endpoint.why(older) for endpoint in endpoints] == [Reason.OLDER_THAN_INSTALLED] * 2


async def test_a_recalled_release_is_not_brought_back_on_its_word(world: World) -> None:
    world.open_all_rings()
    endpoints = await world.enrol(2)
    bad = world.release("1.0")
    await world.completed(bad)
    offers: tuple[Offer, ...] = world.coordinator.schedule_of(SITE).offers
    world.recall(bad)
    await world.until(lambda: not any(endpoint.version for endpoint in endpoints))
    world.coordinator.stop()
    world.coordinator.misuse_keys(replace(world.coordinator.schedule_of(SITE), issued=int(world.unix()), offers=offers))
    await world.pass_time(400)
    assert not any(endpoint.version for endpoint in endpoints)


async def test_a_policy_that_is_newer_than_the_schedule_condemns_nothing(world: World) -> None:
    """For a moment every change of policy looks like a theft; what was under way goes on afterwards."""
    world.open_all_rings()
    endpoints = await world.enrol(2)
    world.payload_uplink.cut()
    release = world.release("1.0")
    await world.until(lambda: all(endpoint.attempt is not None for endpoint in endpoints))
    world.coordinator.stop()
    world.set_policy(segments=("office", "lab"))
    world.coordinator.changes.announce(world.coordinator.repository.timestamp_version())
    await world.pass_time(120)
    assert [await endpoint.why(release) for endpoint in endpoints] == [Reason.SCHEDULE_OUTSIDE_POLICY] * 2
    world.payload_uplink.mend()
    await world.revive_coordinator()
    await world.all_committed(release)
