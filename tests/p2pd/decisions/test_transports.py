# SPDX-License-Identifier: Apache-2.0
"""The smallest transport that can be used; and the full one in a delta's place only as far as the policy lets it."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from p2pd.decisions.eligibility import Refusal
from p2pd.decisions.transports import (
    PATIENCE_SECONDS,
    REFUSED_SECONDS,
    Holdings,
    Prospects,
    Way,
    choose_way,
    seconds_to_judgement,
    why_give_up,
)
from signing.manifest import Content, Delta, Manifest, SegmentTorrent, Transport
from signing.policy import DeltaFallback, Limits
from signing.reasons import Reason, is_passing

FULL_BYTES = 1_000
BASES = tuple(hashlib.sha256(name.encode()).hexdigest() for name in ("1.0", "1.1", "1.2"))
ALWAYS = Limits()
DIFFERS = Refusal(reason=Reason.DELTA_BASE_DIFFERS, detail="a bit fell over")


def torrents(name: str, *segments: str) -> tuple[SegmentTorrent, ...]:
    return tuple(
        SegmentTorrent(segment=segment, info_hash="0" * 64, target=f"{name}-{segment}") for segment in segments
    )


def digest(base: str, size: int) -> str:
    return hashlib.sha256(f"{base} {size}".encode()).hexdigest()


def release(sizes: dict[str, int], *, segments: tuple[str, ...] = ("office",)) -> Manifest:
    """With a delta of so many bytes from each base."""
    full = Transport(
        codec="zstd", content=Content(sha256="f" * 64, size=FULL_BYTES), torrents=torrents("full", "office")
    )
    deltas = tuple(
        Delta(
            codec="hdiffpatch",
            content=Content(sha256=digest(base, size), size=size),
            torrents=torrents(base[:8], *segments),
            base=Content(sha256=base, size=5_000),
        )
        for base, size in sizes.items()
    )
    payload = Content(sha256="e" * 64, size=5_000)
    return Manifest(
        product="tool", version="2.0", release_counter=2, payload=payload, transports=(full,), deltas=deltas
    )


def choose(
    manifest: Manifest,
    *,
    readable: frozenset[str] = frozenset(),
    installed: frozenset[str] = frozenset(),
    unusable: dict[str, Refusal] | None = None,
    limits: Limits = ALWAYS,
) -> Way | Refusal | None:
    holdings = Holdings(readable=readable, installed=installed, unusable=unusable or {})
    return choose_way(manifest, "office", holdings=holdings, limits=limits)


sizes_of_deltas = st.dictionaries(st.sampled_from(BASES), st.integers(1, 2 * FULL_BYTES))
some_bases = st.frozensets(st.sampled_from(BASES))
limits_of_all_kinds = st.builds(
    Limits, delta_fallback=st.sampled_from(DeltaFallback), delta_fallback_bytes=st.integers(0, 2 * FULL_BYTES)
)


@given(sizes=sizes_of_deltas, readable=some_bases, installed=some_bases, failed=some_bases, limits=limits_of_all_kinds)
def test_what_is_chosen_can_be_used_and_nothing_smaller_can(
    sizes: dict[str, int],
    readable: frozenset[str],
    installed: frozenset[str],
    failed: frozenset[str],
    limits: Limits,
) -> None:
    unusable = {digest(base, sizes[base]): DIFFERS for base in failed & set(sizes)}
    usable = {base: size for base, size in sizes.items() if size < FULL_BYTES and base in readable - failed}
    found = choose(release(sizes), readable=readable, installed=installed, unusable=unusable, limits=limits)
    if usable:
        assert isinstance(found, Way)
        assert found.delta is not None
        assert found.delta.base.sha256 in usable
        assert found.transport.content.size == min(usable.values())
        return
    expected = {base for base, size in sizes.items() if size < FULL_BYTES} & (failed | (installed - readable))
    over_budget = limits.delta_fallback is DeltaFallback.BUDGET and limits.delta_fallback_bytes < FULL_BYTES
    if expected and (limits.delta_fallback is DeltaFallback.NEVER or over_budget):
        assert isinstance(found, Refusal)
        assert is_passing(found.reason)
    else:
        assert isinstance(found, Way)
        assert found.transport.content.size == FULL_BYTES
        assert (found.instead_of is not None) == bool(expected)


@given(sizes=sizes_of_deltas, limits=limits_of_all_kinds)
def test_an_endpoint_that_has_nothing_takes_the_full_one_whatever_the_policy(
    sizes: dict[str, int], limits: Limits
) -> None:
    found = choose(release(sizes), limits=limits)
    assert isinstance(found, Way)
    assert (found.transport.content.size, found.instead_of) == (FULL_BYTES, None)


def test_an_endpoint_whose_base_fails_takes_another_delta_before_it_falls_back() -> None:
    manifest = release({BASES[0]: 100, BASES[1]: 200})
    both = frozenset(BASES[:2])
    never = Limits(delta_fallback=DeltaFallback.NEVER)
    found = choose(manifest, readable=both, unusable={digest(BASES[0], 100): DIFFERS}, limits=never)
    assert isinstance(found, Way)
    assert found.transport.content.size == 200


def test_the_refusal_tells_what_was_wrong_with_the_delta() -> None:
    manifest = release({BASES[0]: 100})
    failed = {digest(BASES[0], 100): DIFFERS}
    for limits, reason in (
        (Limits(delta_fallback=DeltaFallback.NEVER), Reason.DELTA_FALLBACK_FORBIDDEN),
        (Limits(delta_fallback=DeltaFallback.BUDGET, delta_fallback_bytes=999), Reason.DELTA_FALLBACK_OVER_BUDGET),
    ):
        found = choose(manifest, readable=frozenset(BASES[:1]), unusable=failed, limits=limits)
        assert isinstance(found, Refusal)
        assert found.reason is reason
        assert DIFFERS.detail in found.detail
        assert DIFFERS.reason.value in found.detail
        if reason is Reason.DELTA_FALLBACK_OVER_BUDGET:
            assert "1000 bytes, the budget is 999" in found.detail


def test_a_base_that_is_installed_but_not_kept_counts_as_differing() -> None:
    never = Limits(delta_fallback=DeltaFallback.NEVER)
    found = choose(release({BASES[0]: 100}), installed=frozenset(BASES[:1]), limits=never)
    assert isinstance(found, Refusal)
    assert Reason.DELTA_BASE_DIFFERS.value in found.detail


def test_a_delta_without_a_torrent_for_this_segment_is_none() -> None:
    manifest = release({BASES[0]: 100}, segments=("other",))
    found = choose(manifest, readable=frozenset(BASES[:1]), limits=Limits(delta_fallback=DeltaFallback.NEVER))
    assert isinstance(found, Way)
    assert found.delta is None


def test_a_release_for_another_segment_has_no_way() -> None:
    assert choose_way(release({}), "elsewhere", holdings=Holdings(), limits=Limits()) is None


@given(idle=st.floats(0, 2 * REFUSED_SECONDS), is_refused=st.booleans(), is_announced=st.booleans())
def test_a_delta_is_given_up_only_for_what_is_here_or_because_the_origin_refuses_it(
    idle: float, is_refused: bool, is_announced: bool
) -> None:
    refusal = why_give_up(Prospects(idle=idle, is_refused=is_refused, is_announced=is_announced))
    is_due = (is_announced and idle >= PATIENCE_SECONDS) or (is_refused and idle >= REFUSED_SECONDS)
    assert (refusal is not None) is is_due
    if refusal is not None:
        assert refusal.reason is Reason.DELTA_OUT_OF_REACH
        assert is_passing(refusal.reason)
        assert f"{idle:.0f} s" in refusal.detail


@given(idle=st.floats(0, 2 * REFUSED_SECONDS), is_refused=st.booleans(), is_announced=st.booleans())
def test_whoever_looks_again_when_told_misses_nothing_and_never_goes_round_in_circles(
    idle: float, is_refused: bool, is_announced: bool
) -> None:
    pause = seconds_to_judgement(idle)
    assert pause >= 1
    later = Prospects(idle=idle + pause, is_refused=is_refused, is_announced=is_announced)
    if idle < PATIENCE_SECONDS:
        assert (why_give_up(later) is not None) is is_announced
    elif idle < REFUSED_SECONDS:
        assert (why_give_up(later) is not None) is (is_announced or is_refused)
