# SPDX-License-Identifier: Apache-2.0
"""An ambassador keeps pace with its uplink, and nobody who takes nothing holds it up."""

from hypothesis import given
from hypothesis import strategies as st

from p2pd.decisions.spreading import MOST_PIECES, PATIENCE, Backlog
from p2pd.piece_set import NO_PIECES, PieceSet


def pieces(count: int, *, since: int = 0) -> PieceSet:
    return PieceSet.of(range(since, since + count))


def test_it_stops_while_its_peers_lag_behind_and_goes_on_as_they_catch_up() -> None:
    backlog = Backlog()
    assert not backlog.holds(pieces(MOST_PIECES), NO_PIECES, now=0.0)
    assert not backlog.holds(pieces(MOST_PIECES + 2), pieces(2), now=1.0)
    assert backlog.holds(pieces(MOST_PIECES + 3), pieces(2), now=1.2)
    assert not backlog.holds(pieces(MOST_PIECES + 3), pieces(3), now=1.4)


def test_peers_who_take_nothing_hold_nobody_up() -> None:
    backlog = Backlog()
    assert not backlog.holds(pieces(100), NO_PIECES, now=0.0)
    assert backlog.holds(pieces(100), pieces(1), now=5.0)
    assert not backlog.holds(pieces(100), pieces(1), now=5.0 + PATIENCE)


def test_what_came_to_peers_from_others_is_no_backlog() -> None:
    backlog = Backlog()
    backlog.holds(NO_PIECES, pieces(1), now=0.0)
    assert not backlog.holds(pieces(MOST_PIECES), pieces(50, since=100), now=0.1)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40), st.floats(0.01, 2.0)), max_size=40))
def test_it_never_holds_longer_than_its_patience_without_anything_moving(
    steps: list[tuple[int, int, float]],
) -> None:
    backlog, now, brought, spread, held_since = Backlog(), 0.0, 0, 0, None
    for more, taken, seconds in steps:
        now += seconds
        brought += more
        moved = min(taken, brought - spread)
        spread += moved
        holds = backlog.holds(pieces(brought), pieces(spread), now=now)
        held_since = None if not holds or moved else held_since if held_since is not None else now
        assert held_since is None or now - held_since < PATIENCE
        assert not holds or brought - spread > MOST_PIECES
