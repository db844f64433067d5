# SPDX-License-Identifier: Apache-2.0
"""Drafts fill short rings, stay where they are, and never exceed what the policy signs for."""

from collections import Counter
from collections.abc import Collection

from hypothesis import given
from hypothesis import strategies as st

from seeds.decisions.gates import RingEvidence
from seeds.decisions.rings import Placement, reachable
from seeds.records import Device, Rollout, Said
from signing.policy import Policy, Ring, ring_point
from signing.reasons import Reason
from signing.report import InstallState
from signing.schedule import Draft

names = st.sets(st.sampled_from([f"pc-{number}" for number in range(60)]), max_size=40)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    count = draw(st.integers(1, 4))
    rings = tuple(
        Ring(
            name=f"ring-{index}",
            devices=tuple(draw(st.sets(st.sampled_from([f"pc-{n}" for n in range(10)]), max_size=3))),
            percent=draw(st.sampled_from([0.0, 5.0, 25.0])),
            at_least=draw(st.integers(0, 6)),
        )
        for index in range(count)
    )
    return Policy(version=1, segments=("office",), rings=rings)


def draft(policy: Policy, members: Collection[str], already: tuple[Draft, ...] = ()) -> tuple[Draft, ...]:
    return Placement(policy, members).draft(members, already)


def gather_evidence(
    policy: Policy, members: Collection[str], drafted: tuple[Draft, ...], said: dict[str, Said]
) -> tuple[RingEvidence, ...]:
    return Placement(policy, members).gather(members, drafted, said)


def pairs(drafts: tuple[Draft, ...]) -> tuple[tuple[str, int], ...]:
    return tuple((entry.device, entry.ring) for entry in drafts)


@given(policy=policies(), members=names)
def test_drafts_stay_within_the_signed_number_and_off_pinned_devices(policy: Policy, members: set[str]) -> None:
    drafts = draft(policy, members)
    pinned = {device for ring in policy.rings for device in ring.devices}
    for ring, count in Counter(entry.ring for entry in drafts).items():
        assert count <= policy.rings[ring].at_least
    assert {entry.device for entry in drafts} <= members - pinned
    assert len({entry.device for entry in drafts}) == len(drafts)


@given(policy=policies(), members=names)
def test_a_short_ring_is_filled_as_far_as_later_rings_reach(policy: Policy, members: set[str]) -> None:
    drafts = pairs(draft(policy, members))
    pinned = {device for ring in policy.rings for device in ring.devices}
    place = {member: policy.ring_of(member, drafts) for member in members}
    drafted = dict(drafts)
    for index, ring in enumerate(policy.rings):
        still_free = [m for m in members if m not in pinned and m not in drafted and place[m] > index]
        assert sum(1 for at in place.values() if at == index) >= ring.at_least or not still_free


@given(policy=policies(), members=names, joining=names)
def test_who_was_drafted_stays_drafted_when_others_join(policy: Policy, members: set[str], joining: set[str]) -> None:
    before = draft(policy, members)
    after = draft(policy, members | joining, before)
    assert set(before) <= set(after)


@given(policy=policies(), members=names)
def test_drafting_is_deterministic_and_settles(policy: Policy, members: set[str]) -> None:
    drafts = draft(policy, sorted(members))
    assert draft(policy, sorted(members, reverse=True)) == drafts
    assert draft(policy, members, drafts) == drafts


@given(policy=policies(), members=names)
def test_the_placement_is_the_one_that_agents_compute(policy: Policy, members: set[str]) -> None:
    drafts = draft(policy, members)
    placement = Placement(policy, members)
    for member in members:
        assert placement.ring_of(member, dict(pairs(drafts))) == policy.ring_of(member, pairs(drafts))


@given(policy=policies(), narrower=policies(), members=names)
def test_drafts_of_an_earlier_policy_are_bounded_by_the_new_one(
    policy: Policy, narrower: Policy, members: set[str]
) -> None:
    earlier = draft(policy, members)
    for ring, count in Counter(entry.ring for entry in draft(narrower, members, earlier)).items():
        assert count <= narrower.rings[ring].at_least
    found = gather_evidence(narrower, members, earlier, {})  # a complete rollout keeps its old drafts
    assert sum(ring.members for ring in found) == len(members)


def test_the_lowest_ring_points_are_drafted() -> None:
    policy = Policy(version=1, segments=("office",), rings=(Ring(name="canary", at_least=2), Ring(name="all")))
    members = [f"pc-{number}" for number in range(20)]
    assert {entry.device for entry in draft(policy, members)} == set(sorted(members, key=ring_point)[:2])


def test_a_device_that_left_makes_room_for_another() -> None:
    policy = Policy(version=1, segments=("office",), rings=(Ring(name="canary", at_least=1), Ring(name="all")))
    first = draft(policy, {"a", "b"})
    (gone,) = (entry.device for entry in first)
    (successor,) = draft(policy, {"a", "b"} - {gone}, first)
    assert successor.device != gone


def test_a_smaller_signed_number_takes_drafts_back() -> None:
    wide = Policy(version=1, segments=("office",), rings=(Ring(name="canary", at_least=3), Ring(name="all")))
    narrow = Policy(version=2, segments=("office",), rings=(Ring(name="canary", at_least=1), Ring(name="all")))
    members = {"a", "b", "c", "d"}
    drafts = draft(wide, members)
    assert draft(narrow, members, drafts) == drafts[:1]


def test_evidence_counts_final_words_and_rollbacks_under_way() -> None:
    policy = Policy(version=1, segments=("office",), rings=(Ring(name="canary", devices=("a",)), Ring(name="all")))
    said = {
        "a": Said(state=InstallState.COMMITTED),
        "b": Said(state=InstallState.ROLLING_BACK),
        "c": Said(state=InstallState.FAILED),
        "d": Said(state=InstallState.PROBATION),
        "f": Said(state=InstallState.FAILED, reason=Reason.DISK_FULL),
        "g": Said(state=InstallState.FAILED, forgiven=True),
        "stranger": Said(state=InstallState.COMMITTED),
    }
    canary, rest = gather_evidence(policy, ("a", "b", "c", "d", "e", "f", "g"), (), said)
    assert (canary.members, canary.committed, canary.failed, canary.pending) == (1, 1, 0, 0)
    assert (rest.members, rest.committed, rest.failed, rest.pending) == (5, 0, 2, 3)
    assert (canary.forgiven, rest.forgiven) == (0, 1)


@given(policy=policies(), members=names)
def test_evidence_counts_every_member_once(policy: Policy, members: set[str]) -> None:
    found = gather_evidence(policy, members, draft(policy, members), {})
    assert sum(ring.members for ring in found) == len(members)
    assert all(ring.pending == ring.members for ring in found)


def test_a_release_reaches_only_the_segments_it_has_torrents_for() -> None:
    def device(name: str, segment: str) -> Device:
        return Device(
            device=name, segment=segment, site="home", public_pem=b"", token_sha256="", enrolled_at=0,
            certificate_expires=0,
        )  # fmt: skip

    rollout = Rollout(manifest_sha256="0" * 64, product="p", version="1", release_counter=1, segments=("office",))
    assert reachable(rollout, [device("b", "office"), device("c", "lab"), device("a", "office")]) == ("a", "b")
