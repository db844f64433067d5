# SPDX-License-Identifier: Apache-2.0
"""Who has fallen silent: as fast as its own rhythm allows to tell, and nobody who is merely slow."""

from hypothesis import given
from hypothesis import strategies as st

from p2pd.decisions.silence import (
    FIRST_GAPS,
    LEAST_PATIENCE,
    MOST_STALLS,
    MUTE_SECONDS,
    Ears,
    Fronts,
    Offer,
    Rhythm,
)
from p2pd.piece_set import NO_PIECES, PieceSet

STALL = 8.0
STRIPES = {"a": PieceSet.of(range(20)), "b": PieceSet.of(range(20, 40))}


def moved(fronts: Fronts, *, gap: float, pieces: int) -> float:
    """Both bring a piece every `gap` seconds; the moment of the last one."""
    for number in range(pieces + 1):
        here = PieceSet.first(number) | PieceSet.of(range(20, 20 + number))
        fronts.look(STRIPES, here, now=number * gap)
    return pieces * gap


def test_one_that_hangs_is_noticed_within_seconds_where_pieces_come_fast() -> None:
    fronts = Fronts()
    last = moved(fronts, gap=0.5, pieces=8)
    for step in range(1, 7):  # from here on only b moves
        here = PieceSet.first(8) | PieceSet.of(range(20, 28 + step))
        fronts.look(STRIPES, here, now=last + step * 0.5)
    assert fronts.silent(me="c", now=last + LEAST_PATIENCE - 0.1, stall=STALL) == frozenset()
    assert fronts.silent(me="c", now=last + LEAST_PATIENCE, stall=STALL) == {"a"}


def test_one_behind_a_slow_wan_is_not_silent_after_a_stall() -> None:
    """A piece takes it ten seconds: to fetch it for the second time would take the WAN another ten."""
    fronts = Fronts()
    last = moved(fronts, gap=10.0, pieces=8)
    assert fronts.silent(me="c", now=last + STALL + 2.0, stall=STALL) == frozenset()
    assert fronts.silent(me="c", now=last + MOST_STALLS * STALL, stall=STALL) == {"a", "b"}


def test_as_long_as_nobody_knows_how_fast_it_is_a_stall_has_to_pass() -> None:
    fronts = Fronts()
    fronts.look(STRIPES, NO_PIECES, now=0.0)
    assert fronts.silent(me="c", now=STALL - 0.1, stall=STALL) == frozenset()
    assert fronts.silent(me="c", now=STALL, stall=STALL) == {"a", "b"}
    fronts.excuse(now=STALL)
    assert fronts.silent(me="c", now=STALL + 1, stall=STALL) == frozenset()


def test_while_the_origin_fails_oneself_nobody_else_is_silent() -> None:
    fronts = Fronts()
    fronts.look(STRIPES, NO_PIECES, now=0.0)
    assert fronts.silent(me="a", now=STALL, stall=STALL) == frozenset()
    fronts.look(STRIPES, PieceSet.first(1), now=STALL)
    assert fronts.silent(me="a", now=STALL, stall=STALL) == {"b"}


def test_what_helpers_bring_is_no_sign_of_life() -> None:
    """Or one that hangs would cost as many patiences as it has pieces left."""
    fronts = Fronts()
    last = moved(fronts, gap=0.5, pieces=8)
    assert fronts.silent(me="c", now=last + LEAST_PATIENCE, stall=STALL) == {"a", "b"}
    fronts.look(STRIPES, PieceSet.first(9), now=last + LEAST_PATIENCE)
    assert fronts.silent(me="c", now=last + LEAST_PATIENCE, stall=STALL) == {"a", "b"}
    others = {"a": STRIPES["a"] | STRIPES["b"]}
    fronts.look(others, PieceSet.first(9), now=last + LEAST_PATIENCE)
    assert fronts.silent(me="c", now=last + LEAST_PATIENCE, stall=STALL) == frozenset()


def test_a_stripe_that_is_done_owes_nothing_and_pieces_that_leave_with_a_peer_move_nobody() -> None:
    fronts = Fronts()
    fronts.look(STRIPES, STRIPES["a"] | PieceSet.of(range(20, 30)), now=0.0)
    assert fronts.silent(me="c", now=STALL, stall=STALL) == {"b"}
    fronts.look(STRIPES, STRIPES["a"] | PieceSet.of(range(20, 25)), now=STALL)
    assert fronts.silent(me="c", now=STALL, stall=STALL) == {"b"}


@given(st.lists(st.floats(0, 1e3), max_size=30), st.floats(1, 60))
def test_patience_is_bounded_and_never_less_than_the_rhythm_explains(gaps: list[float], stall: float) -> None:
    rhythm = Rhythm()
    for gap in gaps:
        rhythm = rhythm.after(gap)
    patience = rhythm.patience(stall)
    if len(gaps) < FIRST_GAPS:
        assert patience == stall
    else:
        assert min(LEAST_PATIENCE, stall) <= patience <= MOST_STALLS * stall
        assert patience >= min(rhythm.mean, MOST_STALLS * stall)


def offers(**peers: tuple[int, int]) -> dict[str, Offer]:
    """By device: how many pieces it has, of which none is here, and what it has sent."""
    everybody = {}
    for device, (pieces, bytes_in) in peers.items():
        have = PieceSet.first(pieces)
        everybody[device] = Offer(have=have, missing=have, bytes_in=bytes_in)
    return everybody


def test_mute_is_who_alone_offers_something_and_sends_nothing() -> None:
    ears = Ears()
    for second in range(int(MUTE_SECONDS) + 1):
        mute = ears.mute(offers(hung=(9, 0), needless=(4, 0), busy=(5, second)), now=float(second))
    assert mute == {"hung"}
    assert ears.mute(offers(hung=(9, 1), busy=(5, 9)), now=MUTE_SECONDS + 1) == frozenset()


def test_two_that_hang_together_do_not_vouch_for_each_other() -> None:
    ears = Ears()
    for second in range(int(MUTE_SECONDS) + 1):
        mute = ears.mute(offers(one=(9, 0), two=(9, 0), busy=(5, second)), now=float(second))
    assert mute == {"one", "two"}


def test_an_endpoint_that_hung_itself_blames_nobody() -> None:
    ears = Ears()
    ears.mute(offers(peer=(9, 0)), now=0.0)
    assert ears.mute(offers(peer=(9, 0)), now=60.0) == frozenset()


@given(st.lists(st.tuples(st.floats(0.1, 2.0), st.booleans()), max_size=60))
def test_whoever_sends_anything_within_a_while_is_never_mute(moments: list[tuple[float, bool]]) -> None:
    ears, now, sent, last = Ears(), 0.0, 0, 0.0
    for pause, sends in moments:
        now += pause
        if sends or now - last > MUTE_SECONDS - 2.0:
            sent, last = sent + 1, now
        assert ears.mute(offers(peer=(9, sent)), now=now) == frozenset()
