# SPDX-License-Identifier: Apache-2.0
"""The division of an origin's pieces: complete, even, calm when somebody dies, and without collisions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pd.decisions.stripes import LONGEST_UNIT, PieceRun, divide, entry_point, next_run
from p2pd.piece_set import NO_PIECES, PieceSet

AMBASSADORS = st.lists(st.from_regex(r"[a-z]{1,6}", fullmatch=True), min_size=1, max_size=12, unique=True).map(tuple)
COUNTS = st.integers(min_value=1, max_value=600)


@given(AMBASSADORS, COUNTS)
def test_every_piece_has_one_owner_and_one_who_helps_out(ambassadors: tuple[str, ...], count: int) -> None:
    division = divide(ambassadors, count)
    for shares in (division.stripes, division.reserves):
        union = NO_PIECES
        for share in shares.values():
            assert not union & share
            union |= share
        assert union == (PieceSet.first(count) if shares is division.stripes or len(ambassadors) > 1 else NO_PIECES)
    for device in ambassadors:
        assert not division.stripes[device] & division.reserves[device]


@given(AMBASSADORS, COUNTS, st.randoms())
def test_all_divide_alike_and_evenly(ambassadors: tuple[str, ...], count: int, random: object) -> None:
    shuffled = tuple(sorted(ambassadors, key=lambda device: hash((device, id(random)))))
    assert divide(ambassadors, count) == divide(shuffled, count)
    lengths = [len(stripe) for stripe in divide(ambassadors, count).stripes.values()]
    assert max(lengths) <= -(-count // len(ambassadors)) + LONGEST_UNIT


@given(st.integers(min_value=3, max_value=10), st.integers(min_value=200, max_value=600), st.data())
def test_a_death_leaves_most_pieces_of_the_living_where_they_were(
    devices: int, count: int, data: st.DataObject
) -> None:
    ambassadors = tuple(f"pc-{number}" for number in range(devices))
    dead = data.draw(st.sampled_from(ambassadors))
    before = divide(ambassadors, count).stripes
    after = divide(tuple(device for device in ambassadors if device != dead), count).stripes
    kept = sum(len(before[device] & after[device]) for device in after)
    assert kept >= 0.6 * (count - len(before[dead]))


@given(AMBASSADORS, COUNTS, st.integers(min_value=1, max_value=9), st.data())
def test_as_long_as_anything_is_wanted_somebody_asks_for_it(
    ambassadors: tuple[str, ...], count: int, longest: int, data: st.DataObject
) -> None:
    wanted = PieceSet(data.draw(st.integers(min_value=1, max_value=(1 << count) - 1)))
    runs = {
        me: next_run(me=me, ambassadors=ambassadors, piece_count=count, wanted=wanted, longest=longest, guard=2)
        for me in ambassadors
    }
    asked = [run for run in runs.values() if run is not None]
    assert asked
    division = divide(ambassadors, count)
    for me, run in runs.items():
        if run is not None:
            assert 1 <= run.count <= longest
            assert not run.pieces - wanted
            assert not run.pieces - division.stripes[me] or not run.pieces - division.reserves[me]


@given(AMBASSADORS, COUNTS, st.data())
def test_nobody_asks_for_what_somebody_else_asks_for(
    ambassadors: tuple[str, ...], count: int, data: st.DataObject
) -> None:
    """Owners from the front, helpers from the back, in whatever order they come to it: no piece is asked for twice."""
    wanted, asked = PieceSet.first(count), NO_PIECES
    mine = dict.fromkeys(ambassadors, NO_PIECES)
    stopped = data.draw(st.sets(st.sampled_from(ambassadors), max_size=len(ambassadors) - 1))
    for me in data.draw(st.permutations(ambassadors)):
        while me not in stopped:
            run = next_run(
                me=me, ambassadors=ambassadors, piece_count=count, wanted=wanted - mine[me], longest=3, guard=4
            )
            if run is None:
                break
            assert not run.pieces & asked, "it was asked for by somebody who does not say so"
            mine[me] |= run.pieces
            asked |= run.pieces
        wanted -= mine[me]  # what it brought is seen before the next one begins
    assert len(PieceSet.first(count) - asked) <= sum(
        len(divide(ambassadors, count).stripes[device]) for device in stopped
    )


def test_a_helper_takes_the_far_end_and_leaves_what_the_owner_asks_for_next() -> None:
    division = divide(("a", "b"), 64)
    left = division.stripes["b"]
    run = next_run(me="a", ambassadors=("a", "b"), piece_count=64, wanted=left, longest=2, guard=3)
    assert run is not None
    assert left.highest in run.pieces
    nearly_done = PieceSet.of(list(left)[-3:])
    assert next_run(me="a", ambassadors=("a", "b"), piece_count=64, wanted=nearly_done, longest=2, guard=3) is None


def test_a_run_stops_at_a_piece_that_is_not_wanted_and_at_its_longest() -> None:
    wanted = PieceSet.of([1, 2, 4, 5])
    assert next_run(me="a", ambassadors=("a",), piece_count=6, wanted=wanted, longest=8) == PieceRun(first=1, count=2)
    assert next_run(me="a", ambassadors=("a",), piece_count=6, wanted=wanted, longest=1) == PieceRun(first=1, count=1)


def test_who_takes_over_begins_in_the_middle_and_comes_round() -> None:
    everything = PieceSet.first(6)
    begin = next_run(me="a", ambassadors=("a",), piece_count=6, wanted=everything, longest=8, start_at=4)
    assert begin == PieceRun(first=4, count=2)
    rest = next_run(me="a", ambassadors=("a",), piece_count=6, wanted=everything - begin.pieces, longest=8, start_at=4)
    assert rest == PieceRun(first=0, count=4)
    assert {entry_point(f"pc-{n}", 16) for n in range(200)} == set(range(16))


@pytest.mark.parametrize("count", [1, 2, 16_384])
def test_a_torrent_of_any_size_can_be_divided(count: int) -> None:
    stripes = divide(tuple(f"pc-{number}" for number in range(16)), count).stripes
    assert sum(map(len, stripes.values())) == count


def test_a_helper_comes_to_the_very_first_piece() -> None:
    first = PieceSet.of([0])
    (owner,) = (device for device, stripe in divide(("a", "b"), 4).stripes.items() if 0 in stripe)
    (helper,) = {"a", "b"} - {owner}
    run = next_run(me=helper, ambassadors=("a", "b"), piece_count=4, wanted=first, longest=4)
    assert run == PieceRun(first=0, count=1)
