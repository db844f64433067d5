# SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies for every signed document: anything that its constructor accepts, short enough to be quick."""

from typing import TypeVar

from hypothesis import strategies as st

from signing.bounds import MAX_COUNTER
from signing.manifest import (
    Applicability,
    CommandCheck,
    Content,
    Delta,
    HealthPlan,
    HttpCheck,
    Manifest,
    Requirement,
    SegmentTorrent,
    Severity,
    TcpCheck,
    Transport,
)
from signing.policy import DeltaFallback, Gate, Limits, Policy, Ring
from signing.reasons import Reason
from signing.recall import Recall, RecallList
from signing.report import InstallState, Measured, Report
from signing.schedule import Draft, Member, Offer, Schedule, SiteRates

X = TypeVar("X")

edges = st.sampled_from("abz059")
names = st.builds(lambda a, middle, z: a + middle + z, edges, st.text("abz059_-", max_size=20), edges)
products = st.builds(lambda first, rest: first + rest, edges, st.text("abz059+_-", max_size=20))
versions = st.builds(lambda first, rest: first + rest, st.sampled_from("aZ09"), st.text("aZ09_+~:-", max_size=20))
digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
counters = st.integers(1, MAX_COUNTER)
naturals = st.integers(0, MAX_COUNTER)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
percents = st.floats(0, 100)


def tuples(items: st.SearchStrategy[X], least: int = 0, most: int = 3) -> st.SearchStrategy[tuple[X, ...]]:
    """Tuples of a few items."""
    return st.lists(items, min_size=least, max_size=most).map(tuple)


contents = st.builds(Content, sha256=digests, size=st.integers(1, 2**36))
torrents = st.builds(SegmentTorrent, segment=names, info_hash=digests, target=st.text("a/.", min_size=1, max_size=20))
transports = st.builds(
    Transport,
    codec=st.just("zstd"),
    content=contents,
    torrents=st.lists(torrents, min_size=1, max_size=3, unique_by=lambda torrent: torrent.segment).map(tuple),
)
deltas = st.builds(
    Delta,
    codec=st.just("hdiffpatch"),
    content=contents,
    torrents=st.builds(SegmentTorrent, segment=names, info_hash=digests, target=st.just("delta")).map(
        lambda one: (one,)
    ),
    base=st.builds(Content, sha256=st.just("de17a" + "0" * 59), size=st.integers(1, 2**36)),
)
check_seconds = st.floats(0.1, 300)
checks = st.one_of(
    st.builds(CommandCheck, argv=tuples(texts, least=1), timeout_seconds=check_seconds),
    st.builds(HttpCheck, url=texts.map("https://".__add__), status=st.integers(100, 599)),
    st.builds(TcpCheck, host=st.text("a0.:-", min_size=1, max_size=20), port=st.integers(1, 65_535)),
)
plans = st.builds(
    HealthPlan,
    checks=tuples(checks),
    probation_seconds=st.floats(0, 86_400),
    interval_seconds=st.floats(0.1, 3_600),
    failures_allowed=st.integers(0, 10),
)
manifests = st.builds(
    Manifest,
    product=products,
    version=versions,
    release_counter=counters,
    payload=contents,
    transports=tuples(transports, least=1),
    severity=st.sampled_from(Severity),
    cves=tuples(st.text("CVE-2026", min_size=1, max_size=16)),
    summary=texts,
    applicability=st.builds(Applicability, systems=tuples(texts), machines=tuples(texts)),
    depends=tuples(st.builds(Requirement, product=products, least_counter=naturals)),
    conflicts=tuples(products),
    installer=names,
    health=plans,
    oldest_fallback=naturals,
    deltas=tuples(deltas, most=1),
)

gates = st.builds(
    Gate,
    success_percent=percents,
    success_count=counters,
    error_percent=percents,
    error_count=counters,
    soak_seconds=st.floats(0, 86_400),
)
rings = st.builds(Ring, name=names, devices=tuples(names), percent=percents, at_least=st.integers(0, 500), gate=gates)
policies = st.builds(
    Policy,
    version=counters,
    segments=st.lists(names, min_size=1, max_size=3, unique=True).map(tuple),
    rings=st.lists(rings, min_size=1, max_size=3, unique_by=lambda ring: ring.name).map(tuple),
    limits=st.builds(
        Limits,
        schedule_seconds=st.floats(60, 86_400),
        delta_fallback=st.sampled_from(DeltaFallback),
        delta_fallback_bytes=st.integers(0, 2**36),
    ),
)

offers = st.builds(
    Offer,
    product=products,
    version=versions,
    release_counter=counters,
    manifest_sha256=digests,
    open_rings=st.integers(0, 16),
    halted=st.none() | st.sampled_from(Reason),
    drafted=tuples(st.builds(Draft, device=names, ring=st.integers(0, 15))),
)
rates = st.floats(1.0, 2**40)
round_trips = st.none() | st.floats(0.0, 600.0)
schedules = st.integers(0, 2**40).flatmap(
    lambda issued: st.builds(
        Schedule,
        site=names,
        policy_version=counters,
        issued=st.just(issued),
        expires=st.integers(issued, MAX_COUNTER),
        members=tuples(st.builds(Member, device=names, weight=st.floats(0.001, 1_000))),
        offers=tuples(offers),
        rates=st.none() | st.builds(SiteRates, wan_bytes_per_s=rates, lan_bytes_per_s=rates, rtt_seconds=round_trips),
    )
)

reports = st.builds(
    Report,
    device=names,
    sequence=counters,
    time=naturals,
    product=products,
    version=versions,
    manifest_sha256=digests,
    state=st.sampled_from(InstallState),
    reason=st.none() | st.sampled_from(Reason),
    detail=texts,
    previous_version=st.none() | versions,
    bytes_lan=naturals,
    bytes_origin=naturals,
    bytes_web=naturals,
    seconds=st.floats(0, 1e9),
    measured=st.none()
    | st.builds(
        Measured,
        wan_bytes_per_s=st.none() | rates,
        intake_bytes_per_s=st.none() | rates,
        origin_bytes_per_s=st.none() | rates,
        lan_in_bytes_per_s=st.none() | rates,
        lan_out_bytes_per_s=st.none() | rates,
        origin_round_trip=round_trips,
        peer_round_trip=round_trips,
    ),
)

recall_lists = st.builds(
    RecallList,
    version=counters,
    recalls=tuples(
        st.builds(
            Recall,
            product=products,
            version=versions,
            manifest_sha256=digests,
            why=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40),
        )
    ),
)
documents = st.one_of(manifests, policies, schedules, reports, recall_lists)
