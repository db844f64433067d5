# SPDX-License-Identifier: Apache-2.0
"""Schedules offer the newest release and, until it has proved itself, the last one that did."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from seeds.decisions.schedule_plan import needs_publishing, offered, plan_schedules
from seeds.records import Device, Rollout, RolloutState
from signing.policy import Limits, Policy, Ring
from signing.reasons import Reason
from signing.schedule import Draft

NOW = 1_000_000.0
POLICY = Policy(
    version=7,
    segments=("office",),
    rings=(Ring(name="canary"), Ring(name="everyone")),
    limits=Limits(schedule_seconds=1_000),
)


def release(counter: int, state: RolloutState, *, of: str = "tzdata", open_rings: int = 1) -> Rollout:
    return Rollout(
        manifest_sha256=f"{counter:064x}",
        product=of,
        version=str(counter),
        release_counter=counter,
        segments=("office",),
        state=state,
        open_rings=open_rings,
    )


def device(name: str, site: str) -> Device:
    return Device(
        device=name,
        segment="office",
        site=site,
        public_pem=b"",
        token_sha256="",
        enrolled_at=0,
        certificate_expires=0,
    )


def versions(*rollouts: Rollout) -> list[str]:
    return [rollout.version for rollout in offered(rollouts)]


def test_a_site_that_lost_its_last_endpoint_is_planned_for_when_it_is_asked_for() -> None:
    planned = plan_schedules(
        POLICY, (device("a", "paris"),), (release(1, RolloutState.RUNNING),), now=NOW, emptied=["rome"]
    )
    assert sorted(planned) == ["paris", "rome"]
    assert (planned["rome"].members, len(planned["rome"].offers)) == ((), 1)


def test_a_complete_release_is_offered_alone() -> None:
    assert versions(release(1, RolloutState.COMPLETE), release(2, RolloutState.COMPLETE)) == ["2"]


def test_while_a_release_is_on_its_way_the_last_good_one_is_offered_too() -> None:
    good = release(1, RolloutState.COMPLETE)
    for state in (RolloutState.WAITING, RolloutState.RUNNING, RolloutState.HALTED, RolloutState.WITHDRAWN):
        assert versions(good, release(2, state)) == ["2", "1"]


def test_an_unproven_older_release_is_not_offered() -> None:
    assert versions(release(1, RolloutState.HALTED), release(2, RolloutState.RUNNING)) == ["2"]


def test_a_withdrawn_newest_does_not_hide_the_one_that_runs() -> None:
    rollouts = (release(1, RolloutState.COMPLETE), release(2, RolloutState.RUNNING), release(3, RolloutState.WITHDRAWN))
    assert versions(*rollouts) == ["3", "2", "1"]


def test_products_do_not_mix() -> None:
    rollouts = (release(1, RolloutState.RUNNING, of="a"), release(9, RolloutState.COMPLETE, of="b"))
    assert versions(*rollouts) == ["1", "9"]


def test_a_site_gets_its_own_members_and_drafts_only() -> None:
    drafted = (Draft(device="pc-1", ring=0), Draft(device="pc-2", ring=0))
    rollout = replace(release(1, RolloutState.RUNNING), drafted=drafted)
    plans = plan_schedules(POLICY, [device("pc-1", "paris"), device("pc-2", "rome")], [rollout], now=NOW)

    assert set(plans) == {"paris", "rome"}
    paris = plans["paris"]
    assert [member.device for member in paris.members] == ["pc-1"]
    assert paris.offers[0].drafted == (Draft(device="pc-1", ring=0),)
    assert (paris.policy_version, paris.issued, paris.expires) == (7, 1_000_000, 1_001_000)


def test_offers_say_why_nobody_installs() -> None:
    def halted(rollout: Rollout) -> Reason | None:
        (plan,) = plan_schedules(POLICY, [device("pc-1", "paris")], [rollout], now=NOW).values()
        return plan.offers[0].halted

    assert halted(release(1, RolloutState.RUNNING)) is None
    assert halted(replace(release(1, RolloutState.HALTED), reason=Reason.ERROR_GATE)) is Reason.ERROR_GATE
    assert halted(release(1, RolloutState.WITHDRAWN)) is Reason.WITHDRAWN


@given(
    states=st.lists(st.sampled_from(RolloutState), min_size=1, max_size=6),
    open_rings=st.integers(0, 16),
)
def test_an_offer_never_opens_more_rings_than_the_policy_has(states: list[RolloutState], open_rings: int) -> None:
    rollouts = [release(index + 1, state, open_rings=open_rings) for index, state in enumerate(states)]
    (plan,) = plan_schedules(POLICY, [device("pc-1", "paris")], rollouts, now=NOW).values()
    newest = max(rollouts, key=lambda rollout: rollout.release_counter)
    assert plan.offers[0].version == newest.version
    for offer in plan.offers:
        assert offer.open_rings <= len(POLICY.rings)
        state = states[offer.release_counter - 1]
        assert (offer.halted is None) == (state in (RolloutState.WAITING, RolloutState.RUNNING, RolloutState.COMPLETE))


def test_the_same_content_is_signed_again_at_half_its_life_only() -> None:
    devices, rollouts = [device("pc-1", "paris")], [release(1, RolloutState.RUNNING)]
    (published,) = plan_schedules(POLICY, devices, rollouts, now=NOW).values()

    def due(policy: Policy, rollouts: list[Rollout], now: float) -> bool:
        (wanted,) = plan_schedules(policy, devices, rollouts, now=now).values()
        return needs_publishing(published, wanted, now=now)

    assert not due(POLICY, rollouts, NOW)
    assert not due(POLICY, rollouts, NOW + 499)
    assert due(POLICY, rollouts, NOW + 500)
    assert due(POLICY, [release(1, RolloutState.HALTED)], NOW + 1)
    assert due(replace(POLICY, version=8), rollouts, NOW + 1)
    assert due(replace(POLICY, limits=Limits(schedule_seconds=60)), rollouts, NOW + 1)


def test_a_site_without_a_schedule_gets_one() -> None:
    (wanted,) = plan_schedules(POLICY, [device("pc-1", "paris")], [], now=NOW).values()
    assert needs_publishing(None, wanted, now=NOW)
