# SPDX-License-Identifier: Apache-2.0
"""Tests of the signed documents: every bound refuses, and the few questions that they answer themselves."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
from hypothesis import given

from signing.codec import decode, encode
from signing.manifest import (
    SMALL_BYTES,
    Applicability,
    CommandCheck,
    Content,
    Delta,
    HealthPlan,
    HttpCheck,
    Manifest,
    Requirement,
    SegmentTorrent,
    TcpCheck,
    Transport,
    manifest_target,
    torrent_target,
)
from signing.policy import Gate, Limits, Policy, Ring, ring_point
from signing.reasons import Reason, explain
from signing.recall import Recall, RecallList
from signing.report import InstallState, Measured, Report
from signing.schedule import Draft, Member, Offer, Schedule, SiteRates, schedule_target
from tests.signing.document_strategies import names

DIGEST = "0123456789abcdef" * 4
CONTENT = Content(sha256=DIGEST, size=1)
TORRENT = SegmentTorrent(segment="default", info_hash=DIGEST, target="patches/tzdata/1/default.torrent")
TRANSPORT = Transport(codec="zstd", content=CONTENT, torrents=(TORRENT,))
MANIFEST = Manifest(product="tzdata", version="1", release_counter=1, payload=CONTENT, transports=(TRANSPORT,))
DELTA = Delta(
    codec="hdiffpatch",
    content=Content(sha256="d" * 64, size=2),
    torrents=(replace(TORRENT, info_hash="e" * 64, target="patches/tzdata/1/default.from-b.torrent"),),
    base=Content(sha256="b" * 64, size=3),
)
REPORT = Report(
    device="d", sequence=1, time=0, product="p", version="1", manifest_sha256=DIGEST, state=InstallState.FETCHING
)
OFFER = Offer(product="p", version="1", release_counter=1, manifest_sha256=DIGEST, open_rings=0)
RATES = SiteRates(wan_bytes_per_s=1e6, lan_bytes_per_s=1e7, rtt_seconds=0.01)
SCHEDULE = Schedule(site="s", policy_version=1, issued=10, expires=10, members=(), offers=())
RECALL = Recall(product="p", version="1", manifest_sha256=DIGEST, why="w")
POLICY = Policy(version=1, segments=("s",), rings=(Ring(name="all"),))


@pytest.mark.parametrize(
    ("document", "change"),
    [
        (CONTENT, {"sha256": "x"}),
        (CONTENT, {"size": 0}),
        (CONTENT, {"size": 64 * 2**30 + 1}),
        (TORRENT, {"segment": "Default"}),
        (TORRENT, {"info_hash": "x"}),
        (TORRENT, {"target": ""}),
        (TORRENT, {"target": "x" * 256}),
        (TRANSPORT, {"codec": "gzip"}),
        (TRANSPORT, {"codec": "hdiffpatch"}),
        (DELTA, {"codec": "zstd"}),
        (DELTA, {"torrents": ()}),
        (MANIFEST, {"deltas": (DELTA, DELTA)}),
        (MANIFEST, {"deltas": (replace(DELTA, base=CONTENT),)}),  # of the release itself
        (MANIFEST, {"deltas": (replace(DELTA, torrents=(TORRENT,)),)}),  # one torrent for two transports
        (MANIFEST, {"deltas": (DELTA,) * 9}),
        (Limits(), {"delta_fallback_bytes": -1}),
        (TRANSPORT, {"torrents": ()}),
        (TRANSPORT, {"torrents": (TORRENT, TORRENT)}),
        (Applicability(), {"systems": ("linux",) * 17}),
        (Applicability(), {"machines": ("x86_64",) * 17}),
        (Requirement(product="p"), {"product": "../p"}),
        (Requirement(product="p"), {"least_counter": -1}),
        (CommandCheck(argv=("true",)), {"argv": ()}),
        (CommandCheck(argv=("true",)), {"argv": ("x",) * 33}),
        (CommandCheck(argv=("true",)), {"argv": ("x" * 2_001,)}),
        (CommandCheck(argv=("true",)), {"timeout_seconds": 0.0}),
        (CommandCheck(argv=("true",)), {"timeout_seconds": 301.0}),
        (HttpCheck(url="http://h"), {"url": "file:///etc/passwd"}),
        (HttpCheck(url="http://h"), {"url": "http://" + "x" * 2_000}),
        (HttpCheck(url="http://h"), {"status": 99}),
        (HttpCheck(url="http://h"), {"status": 600}),
        (HttpCheck(url="http://h"), {"timeout_seconds": float("nan")}),
        (TcpCheck(host="h", port=1), {"host": ""}),
        (TcpCheck(host="h", port=1), {"port": 0}),
        (TcpCheck(host="h", port=1), {"port": 65_536}),
        (TcpCheck(host="h", port=1), {"timeout_seconds": -1.0}),
        (HealthPlan(), {"checks": (TcpCheck(host="h", port=1),) * 17}),
        (HealthPlan(), {"probation_seconds": 7 * 86_400 + 1.0}),
        (HealthPlan(), {"interval_seconds": 0.0}),
        (HealthPlan(), {"failures_allowed": 11}),
        (MANIFEST, {"product": "p/q"}),
        (MANIFEST, {"version": ".."}),
        (MANIFEST, {"release_counter": 0}),
        (MANIFEST, {"release_counter": 2**53}),
        (MANIFEST, {"transports": ()}),
        (MANIFEST, {"transports": (TRANSPORT,) * 9}),
        (MANIFEST, {"cves": ("CVE",) * 201}),
        (MANIFEST, {"cves": ("",)}),
        (MANIFEST, {"cves": ("x" * 33,)}),
        (MANIFEST, {"summary": "x" * 2_001}),
        (MANIFEST, {"depends": (Requirement(product="p"),) * 65}),
        (MANIFEST, {"conflicts": ("p",) * 65}),
        (MANIFEST, {"conflicts": ("p/q",)}),
        (MANIFEST, {"installer": "os.system()"}),
        (MANIFEST, {"oldest_fallback": -1}),
        (Gate(), {"success_percent": 100.5}),
        (Gate(), {"success_count": 0}),
        (Gate(), {"error_percent": -1.0}),
        (Gate(), {"error_count": 0}),
        (Gate(), {"soak_seconds": float("inf")}),
        (Ring(name="r"), {"name": ""}),
        (Ring(name="r"), {"devices": ("d",) * 501}),
        (Ring(name="r"), {"devices": ("D",)}),
        (Ring(name="r"), {"percent": 101.0}),
        (Ring(name="r"), {"at_least": -1}),
        (Limits(), {"schedule_seconds": 59.0}),
        (POLICY, {"version": 0}),
        (POLICY, {"segments": ()}),
        (POLICY, {"segments": ("S",)}),
        (POLICY, {"segments": ("s", "s")}),
        (POLICY, {"rings": ()}),
        (POLICY, {"rings": (Ring(name="a"), Ring(name="a"))}),
        (POLICY, {"rings": tuple(Ring(name=f"r{n}") for n in range(17))}),
        (Member(device="d"), {"device": "D"}),
        (Member(device="d"), {"weight": 0.0}),
        (Draft(device="d", ring=0), {"device": ""}),
        (Draft(device="d", ring=0), {"ring": 16}),
        (OFFER, {"product": ""}),
        (OFFER, {"version": ""}),
        (OFFER, {"release_counter": 0}),
        (OFFER, {"manifest_sha256": ""}),
        (OFFER, {"open_rings": 17}),
        (OFFER, {"drafted": (Draft(device="d", ring=0),) * 5_001}),
        (SCHEDULE, {"site": "../s"}),
        (SCHEDULE, {"policy_version": 0}),
        (SCHEDULE, {"issued": -1}),
        (SCHEDULE, {"expires": 9}),
        (SCHEDULE, {"members": (Member(device="d"),) * 5_001}),
        (SCHEDULE, {"offers": (OFFER,) * 10_001}),
        (RATES, {"wan_bytes_per_s": 0.0}),
        (RATES, {"lan_bytes_per_s": float("nan")}),
        (RATES, {"rtt_seconds": -1.0}),
        (REPORT, {"device": "D"}),
        (REPORT, {"sequence": 0}),
        (REPORT, {"time": -1}),
        (REPORT, {"product": ""}),
        (REPORT, {"version": ""}),
        (REPORT, {"manifest_sha256": "x"}),
        (REPORT, {"detail": "x" * 2_001}),
        (REPORT, {"previous_version": ""}),
        (REPORT, {"bytes_lan": -1}),
        (REPORT, {"bytes_origin": -1}),
        (REPORT, {"bytes_web": -1}),
        (REPORT, {"seconds": float("nan")}),
        (Measured(), {"wan_bytes_per_s": -1.0}),
        (Measured(), {"intake_bytes_per_s": float("inf")}),
        (Measured(), {"origin_bytes_per_s": float("nan")}),
        (Measured(), {"lan_in_bytes_per_s": 2.0**41}),
        (Measured(), {"lan_out_bytes_per_s": -0.1}),
        (Measured(), {"origin_round_trip": 601.0}),
        (Measured(), {"peer_round_trip": -0.001}),
        (RECALL, {"product": ""}),
        (RECALL, {"version": ""}),
        (RECALL, {"manifest_sha256": ""}),
        (RECALL, {"why": ""}),
        (RECALL, {"why": "x" * 2_001}),
        (RecallList(version=1), {"version": 0}),
        (RecallList(version=1), {"recalls": (RECALL,) * 10_001}),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, dict) else next(iter(value)),
)
def test_every_bound_refuses(document: Any, change: dict[str, Any]) -> None:
    (field,) = change
    with pytest.raises(ValueError, match=field.rstrip("s").split("_")[0]):
        replace(document, **change)


def test_where_things_are_signed() -> None:
    assert MANIFEST.target == manifest_target("tzdata", "1") == "patches/tzdata/1/manifest"
    assert torrent_target("tzdata", "1", "default") == "patches/tzdata/1/default.torrent"
    assert schedule_target("berlin") == "schedules/berlin"


def test_a_small_transport_names_segments_in_the_place_of_torrents() -> None:
    small = Transport(
        codec="zstd", content=Content(sha256=DIGEST, size=SMALL_BYTES), torrents=(), segments=("default",)
    )
    manifest = replace(MANIFEST, transports=(small,))
    assert manifest.small_for("default") == small
    assert manifest.small_for("other") is None
    assert (manifest.is_for("default"), manifest.is_for("other")) == (True, False)
    assert manifest.torrent_for("default") is None
    assert manifest.segments == ("default",)
    assert decode(Manifest, encode(manifest), where="manifest") == manifest


@pytest.mark.parametrize(
    "changes",
    [
        {"content": Content(sha256=DIGEST, size=SMALL_BYTES + 1)},
        {"torrents": (TORRENT,)},
        {"segments": ()},
        {"segments": ("default", "default")},
        {"segments": ("Not a name",)},
    ],
)
def test_a_transport_without_torrents_is_small_and_for_somebody(changes: dict[str, Any]) -> None:
    small = Transport(codec="zstd", content=Content(sha256=DIGEST, size=1), torrents=(), segments=("default",))
    with pytest.raises(ValueError, match=r"torrents|segments"):
        replace(small, **changes)


def test_a_manifest_finds_the_torrent_of_a_segment() -> None:
    other = replace(TORRENT, segment="other")
    manifest = replace(MANIFEST, transports=(TRANSPORT, replace(TRANSPORT, torrents=(other,))))
    assert manifest.torrent_for("default") == (manifest.transports[0], TORRENT)
    assert manifest.torrent_for("other") == (manifest.transports[1], other)
    assert manifest.torrent_for("third") is None


def test_deltas_are_no_transports_of_their_own() -> None:
    manifest = replace(MANIFEST, deltas=(DELTA,))
    assert manifest.torrent_for("default") == (TRANSPORT, TORRENT)
    assert manifest.torrents_for("default") == ((TRANSPORT, TORRENT), (DELTA, DELTA.torrents[0]))
    assert manifest.torrents_for("other") == ()
    assert manifest.all_transports == (TRANSPORT, DELTA)
    assert decode(Manifest, encode(manifest), where="manifest") == manifest
    target = torrent_target("tzdata", "1", "default", base_sha256="b" * 64)
    assert target == f"patches/tzdata/1/default.from-{'b' * 16}.torrent"


def test_an_agent_from_before_deltas_reads_the_rest() -> None:
    """What it does not know it ignores, since the format's minor version is newer than its own."""

    @dataclass(frozen=True, kw_only=True)
    class OldManifest:
        document: ClassVar[str] = Manifest.document
        major: ClassVar[int] = 1
        minor: ClassVar[int] = 0
        max_bytes: ClassVar[int] = Manifest.max_bytes
        product: str

    old = decode(OldManifest, encode(replace(MANIFEST, deltas=(DELTA,))), where="manifest")
    assert old.product == MANIFEST.product


def test_schedules_and_reports_from_before_measurements_and_for_readers_from_then() -> None:
    @dataclass(frozen=True, kw_only=True)
    class OldSchedule:
        document: ClassVar[str] = Schedule.document
        major: ClassVar[int] = 1
        minor: ClassVar[int] = 0
        max_bytes: ClassVar[int] = Schedule.max_bytes
        site: str

    @dataclass(frozen=True, kw_only=True)
    class OldReport:
        document: ClassVar[str] = Report.document
        major: ClassVar[int] = 1
        minor: ClassVar[int] = 0
        max_bytes: ClassVar[int] = Report.max_bytes
        device: str

    schedule, report = replace(SCHEDULE, rates=RATES), replace(REPORT, measured=Measured(wan_bytes_per_s=1.0))
    assert decode(OldSchedule, encode(schedule), where="schedule") == OldSchedule(site="s")
    assert decode(OldReport, encode(report), where="report") == OldReport(device="d")
    assert decode(Schedule, encode(schedule), where="schedule") == schedule
    assert decode(Report, encode(report), where="report") == report


def test_a_recall_withdraws_its_manifest_only() -> None:
    recalls = RecallList(version=2, recalls=(RECALL,))
    assert recalls.withdraws(DIGEST) is RECALL
    assert recalls.withdraws("f" * 64) is None


def test_final_states() -> None:
    assert {state for state in InstallState if state.is_final} == {
        InstallState.COMMITTED,
        InstallState.ROLLED_BACK,
        InstallState.FAILED,
    }


def canary(**ring: Any) -> Policy:
    return replace(POLICY, rings=(Ring(name="canary", **ring), Ring(name="all")))


def find(matches: Callable[[float], bool]) -> str:
    return next(f"d{n}" for n in range(10_000) if matches(ring_point(f"d{n}")))


def test_pins_come_before_drafts_and_drafts_before_the_hash() -> None:
    low, high = find(lambda point: point < 10), find(lambda point: point > 90)
    policy = canary(devices=("pinned",), percent=50)
    assert policy.ring_of("pinned", (("pinned", 1),)) == 0
    assert policy.ring_of(high) == 1
    assert policy.ring_of(high, ((high, 0),)) == 0
    assert policy.ring_of(low) == 0
    assert policy.ring_of(low, ((low, 1),)) == 1


def test_a_pin_in_a_later_ring_keeps_a_device_out_of_earlier_ones() -> None:
    policy = replace(POLICY, rings=(Ring(name="canary", percent=100), Ring(name="all", devices=("precious",))))
    assert policy.ring_of("precious") == 1
    assert policy.ring_of("other") == 0


def test_shares_add_up_and_the_last_ring_takes_the_rest() -> None:
    policy = replace(POLICY, rings=(Ring(name="a", percent=10), Ring(name="b", percent=30), Ring(name="c")))
    assert policy.ring_of(find(lambda point: point < 10)) == 0
    assert policy.ring_of(find(lambda point: 10 <= point < 40)) == 1
    assert policy.ring_of(find(lambda point: point >= 40)) == 2


@given(names)
def test_the_place_on_the_scale_is_fixed_and_within_it(device: str) -> None:
    assert 0 <= ring_point(device) < 100
    assert canary(percent=100.0).ring_of(device) == 0
    assert canary(percent=0.0).ring_of(device) == 1


def test_the_scale_is_that_of_signed_policies() -> None:
    # Moving a point moves devices between the rings of every fleet: it must never change.
    assert [round(ring_point(f"host-{n}"), 3) for n in range(3)] == [44.432, 60.4, 65.307]


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_sentence_of_its_own(reason: Reason) -> None:
    sentence = explain(reason)
    assert len(sentence.split()) >= 4
    assert not sentence.endswith(".")
    assert [other for other in Reason if explain(other) == sentence] == [reason]


def test_reason_codes_are_wire_values() -> None:
    for reason in Reason:
        assert reason.value == reason.name.lower()
