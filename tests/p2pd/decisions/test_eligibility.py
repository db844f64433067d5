# SPDX-License-Identifier: Apache-2.0
"""May this endpoint install that release now? Every no has its reason, and a stolen coordinator gains little."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pd.decisions.eligibility import (
    Endpoint,
    Installed,
    check_freshness,
    check_schedule,
    judge,
    ring_is_open,
)
from p2pd.decisions.selection import Candidate, Choice, choose
from signing.manifest import Applicability, Content, Manifest, Requirement, SegmentTorrent, Transport
from signing.policy import Limits, Policy, Ring
from signing.reasons import Reason
from signing.recall import Recall, RecallList
from signing.schedule import Draft, Offer, Schedule

NOW = 1_800_000_000
CONTENT = Content(sha256="a" * 64, size=1_000)
TRANSPORT = Transport(
    codec="zstd",
    content=CONTENT,
    torrents=(SegmentTorrent(segment="default", info_hash="b" * 64, target="patches/app/2/default.torrent"),),
)
MANIFEST = Manifest(product="app", version="2", release_counter=2, payload=CONTENT, transports=(TRANSPORT,))
OFFER = Offer(product="app", version="2", release_counter=2, manifest_sha256="2" * 64, open_rings=2)
POLICY = Policy(
    version=7,
    segments=("default",),
    rings=(Ring(name="canary", devices=("canary-1",), at_least=1), Ring(name="everyone", percent=100)),
    limits=Limits(schedule_seconds=3_600),
)
NO_RECALLS = RecallList(version=1)
ENDPOINT = Endpoint(
    device="desk-1",
    segment="default",
    system="linux",
    machine="x86_64",
    installers=frozenset({"slot"}),
    installed={"app": Installed(version="1", release_counter=1, manifest_sha256="1" * 64)},
    quarantined=frozenset(),
)


def reason(
    manifest: Manifest = MANIFEST,
    offer: Offer = OFFER,
    endpoint: Endpoint = ENDPOINT,
    recalls: RecallList = NO_RECALLS,
) -> Reason | None:
    refusal = judge(manifest, offer, endpoint=endpoint, policy=POLICY, recalls=recalls)
    return refusal.reason if refusal else None


def schedule(**changes: object) -> Schedule:
    facts: dict[str, object] = {
        "site": "main",
        "policy_version": 7,
        "issued": NOW,
        "expires": NOW + 3_600,
        "members": (),
        "offers": (),
    }
    return Schedule(**(facts | changes))  # type: ignore[arg-type]  # each test names fields of the right type


def test_a_newer_release_in_an_open_ring_is_installed() -> None:
    assert reason() is None


@pytest.mark.parametrize(
    ("expected", "changes"),
    [
        (Reason.RECALLED, {"recalls": RecallList(version=2, recalls=(Recall(product="app", version="2", manifest_sha256="2" * 64, why="breaks"),))}),
        (Reason.QUARANTINED, {"endpoint": replace(ENDPOINT, quarantined=frozenset({"2" * 64}))}),
        (Reason.ALREADY_INSTALLED, {"endpoint": replace(ENDPOINT, installed={"app": Installed(version="2", release_counter=2, manifest_sha256="2" * 64)})}),
        (Reason.OLDER_THAN_INSTALLED, {"endpoint": replace(ENDPOINT, installed={"app": Installed(version="3", release_counter=3, manifest_sha256="3" * 64)})}),
        (Reason.OLDER_THAN_INSTALLED, {"endpoint": replace(ENDPOINT, installed={"app": Installed(version="2b", release_counter=2, manifest_sha256="3" * 64)})}),
        (Reason.FALLBACK_FORBIDDEN, {"manifest": replace(MANIFEST, oldest_fallback=2)}),
        (Reason.PLATFORM_MISMATCH, {"manifest": replace(MANIFEST, applicability=Applicability(systems=("windows",)))}),
        (Reason.PLATFORM_MISMATCH, {"manifest": replace(MANIFEST, applicability=Applicability(machines=("aarch64",)))}),
        (Reason.OTHER_SEGMENT, {"endpoint": replace(ENDPOINT, segment="plant")}),
        (Reason.INSTALLER_UNKNOWN, {"manifest": replace(MANIFEST, installer="firmware")}),
        (Reason.ROLLOUT_HALTED, {"offer": replace(OFFER, halted=Reason.ERROR_GATE)}),
        (Reason.RING_NOT_OPEN, {"offer": replace(OFFER, open_rings=1)}),
        (Reason.DEPENDENCY_MISSING, {"manifest": replace(MANIFEST, depends=(Requirement(product="lib"),))}),
        (Reason.DEPENDENCY_MISSING, {"manifest": replace(MANIFEST, depends=(Requirement(product="app", least_counter=2),))}),
        (Reason.CONFLICT_INSTALLED, {"manifest": replace(MANIFEST, conflicts=("app",))}),
    ],
)  # fmt: skip
def test_every_refusal_has_its_reason(expected: Reason, changes: dict[str, object]) -> None:
    assert reason(**changes) is expected  # type: ignore[arg-type]  # the table above names fields of the right type


def test_the_canary_goes_first_and_a_draft_is_a_canary_too() -> None:
    first_ring = replace(OFFER, open_rings=1)
    assert ring_is_open("canary-1", first_ring, POLICY)
    assert not ring_is_open("desk-1", first_ring, POLICY)
    assert ring_is_open("desk-1", replace(first_ring, drafted=(Draft(device="desk-1", ring=0),)), POLICY)


@pytest.mark.parametrize(
    ("expected", "changes"),
    [
        (Reason.SCHEDULE_OUTSIDE_POLICY, {"policy_version": 6}),
        (Reason.SCHEDULE_OUTSIDE_POLICY, {"expires": NOW + 3_601}),
        (Reason.SCHEDULE_OUTSIDE_POLICY, {"issued": NOW + 301, "expires": NOW + 400}),
        (Reason.METADATA_EXPIRED, {"issued": NOW - 100, "expires": NOW}),
        (Reason.SCHEDULE_OUTSIDE_POLICY, {"offers": (replace(OFFER, open_rings=3),)}),
        (Reason.SCHEDULE_OUTSIDE_POLICY, {"offers": (replace(OFFER, drafted=(Draft(device="a", ring=0), Draft(device="b", ring=0))),)}),
        (Reason.SCHEDULE_OUTSIDE_POLICY, {"offers": (replace(OFFER, drafted=(Draft(device="a", ring=1),)),)}),
    ],
)  # fmt: skip
def test_a_stolen_coordinator_cannot_leave_the_policy(expected: Reason, changes: dict[str, object]) -> None:
    refusal = check_schedule(schedule(**changes), POLICY, now=NOW)
    assert refusal is not None
    assert refusal.reason is expected


def test_a_schedule_within_the_policy_is_taken() -> None:
    offers = (replace(OFFER, drafted=(Draft(device="a", ring=0),)),)
    assert check_schedule(schedule(offers=offers), POLICY, now=NOW) is None


@given(st.dictionaries(st.sampled_from(["root", "timestamp", "patches"]), st.integers(-10, 10), min_size=1))
def test_any_expired_role_blocks(hours: dict[str, int]) -> None:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    refusal = check_freshness({role: now + timedelta(hours=h) for role, h in hours.items()}, now=now)
    assert (refusal is not None) is any(h <= 0 for h in hours.values())


def selection(*counters: int) -> Choice:
    candidates = [
        Candidate(
            offer=replace(OFFER, version=str(n), release_counter=n, manifest_sha256=f"{n:064x}"),
            manifest=replace(MANIFEST, version=str(n), release_counter=n),
        )
        for n in counters
    ]
    return choose(candidates, endpoint=ENDPOINT, policy=POLICY, recalls=NO_RECALLS, general=None, resting={})


@given(st.lists(st.integers(min_value=1, max_value=50), min_size=1, max_size=8, unique=True))
def test_the_newest_is_chosen_and_each_other_has_a_reason(counters: list[int]) -> None:
    choice = selection(*counters)
    newest = max(counters)
    assert choice.start == (f"{newest:064x}" if newest > 1 else None)
    assert set(choice.refusals) == {f"{n:064x}" for n in counters} - {choice.start}


@pytest.mark.parametrize(
    ("ahead", "words"),
    [(301, "5 min 1 s"), (3_600, "1 h"), (93_600, "1 days 2 h"), (10**9, "11574 days 1 h")],
)
def test_a_schedule_from_the_future_says_by_how_much_and_whose_clock_to_look_at(ahead: int, words: str) -> None:
    refusal = check_schedule(schedule(issued=NOW + ahead, expires=NOW + ahead + 60), POLICY, now=NOW)
    assert refusal is not None
    assert refusal.reason is Reason.SCHEDULE_OUTSIDE_POLICY
    assert f"issued {words} ahead of this device's clock" in refusal.detail
