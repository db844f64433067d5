# SPDX-License-Identifier: Apache-2.0
"""Piece sets are sets: every operation agrees with Python's own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pd.piece_set import NO_PIECES, PieceSet

SETS = st.sets(st.integers(min_value=0, max_value=300))


@given(SETS, SETS)
def test_the_operations_are_those_of_sets(left: set[int], right: set[int]) -> None:
    a, b = PieceSet.of(left), PieceSet.of(right)
    assert set(a | b) == left | right
    assert set(a & b) == left & right
    assert set(a - b) == left - right
    assert list(a) == sorted(left)
    assert (len(a), bool(a)) == (len(left), bool(left))
    assert all((piece in a) == (piece in left) for piece in range(-2, 302))


@given(SETS.filter(bool), st.integers(min_value=0, max_value=300), st.integers(min_value=1, max_value=50))
def test_ends_and_runs(pieces: set[int], start: int, longest: int) -> None:
    found = PieceSet.of(pieces)
    assert (found.lowest, found.highest) == (min(pieces), max(pieces))
    assert set(found.from_on(start)) == {piece for piece in pieces if piece >= start}
    run = next(length for length in range(400) if start + length not in pieces)
    assert found.run_at(start, longest) == min(run, longest)


@given(st.lists(st.integers(min_value=0, max_value=1_000), max_size=300))
def test_counts_become_members(counts: list[int]) -> None:
    assert set(PieceSet.where(counts)) == {piece for piece, count in enumerate(counts) if count}
    assert PieceSet.first(len(counts)) == PieceSet.of(range(len(counts)))


def test_nothing_has_no_ends() -> None:
    for end in ("lowest", "highest"):
        with pytest.raises(ValueError, match="empty"):
            getattr(NO_PIECES, end)


@given(st.lists(SETS, max_size=7), st.integers(min_value=1, max_value=8))
def test_held_by_counts_over_all_sets(sets: list[set[int]], least: int) -> None:
    expected = {piece for piece in set().union(*sets) if sum(piece in one for one in sets) >= least}
    assert set(PieceSet.held_by(least, map(PieceSet.of, sets))) == expected
    counts = [sum(piece in one for one in sets) for piece in range(301)]
    assert set(PieceSet.where(counts, least)) == expected
