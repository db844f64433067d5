# SPDX-License-Identifier: Apache-2.0
"""Which pieces go through whom: every missing piece has exactly one owner, and a death moves only its own."""

from hypothesis import given
from hypothesis import strategies as st

from p2pd.decisions.stripes import PieceRun, entry_point, next_run, owner

AMBASSADORS = st.lists(st.from_regex(r"[a-z]{1,6}", fullmatch=True), min_size=1, max_size=6, unique=True)
FLAGS = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=64)


@given(AMBASSADORS, FLAGS, st.integers(min_value=1, max_value=16), st.integers(min_value=0, max_value=63))
def test_the_ambassadors_together_ask_for_each_piece_that_nobody_has_exactly_once(
    ambassadors: list[str], flags: list[tuple[bool, bool]], longest: int, start_at: int
) -> None:
    asked: list[int] = []
    for me in ambassadors:
        have = [here for here, _ in flags]
        peers_have = [there for _, there in flags]
        while (
            run := next_run(
                me=me,
                ambassadors=ambassadors,
                have=have,
                peers_have=peers_have,
                longest=longest,
                start_at=min(start_at, max(len(have) - 1, 0)),
            )
        ) is not None:
            assert 1 <= run.count <= longest
            pieces = range(run.first, run.first + run.count)
            asked += pieces
            for piece in pieces:
                have[piece] = True
    assert sorted(asked) == [piece for piece, (here, there) in enumerate(flags) if not here and not there]


@given(AMBASSADORS.filter(lambda names: len(names) > 1), st.integers(min_value=0, max_value=500), st.data())
def test_a_death_moves_only_the_dead_ones_pieces(ambassadors: list[str], piece: int, data: st.DataObject) -> None:
    dead = data.draw(st.sampled_from(ambassadors))
    before = owner(piece, ambassadors)
    after = owner(piece, [device for device in ambassadors if device != dead])
    assert after == before or before == dead


def test_neighbouring_pieces_travel_in_one_request() -> None:
    have = [True, False, False, False, True, False]
    run = next_run(me="a", ambassadors=["a"], have=have, peers_have=[False] * 6, longest=8)
    assert run == PieceRun(first=1, count=3)


def test_whoever_takes_over_begins_at_a_place_of_its_own_and_goes_round() -> None:
    missing = [False] * 6
    assert next_run(me="a", ambassadors=["a"], have=missing, peers_have=missing, longest=8, start_at=4) == PieceRun(
        first=4, count=2
    )
    have = [False, False, True, True, True, True]
    assert next_run(me="a", ambassadors=["a"], have=have, peers_have=missing, longest=8, start_at=4) == PieceRun(
        first=0, count=2
    )
    assert len({entry_point(f"desk-{n}", 10_000) for n in range(20)}) == 20
