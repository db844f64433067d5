# SPDX-License-Identifier: Apache-2.0
"""What runs, in which order, and what is left out."""

from bench.contenders.all import CONTENDERS
from bench.programme import Allowance, Entrant, likely_seconds, rounds
from bench.programmes import SHORT_SECONDS, full, short
from bench.scenes import SCENES

ONE = Entrant(scene=SCENES["flat-10"], contender=CONTENDERS["p2pd"], runs=3)
TWO = Entrant(scene=SCENES["flat-10"], contender=CONTENDERS["aria2"], runs=2)


def test_everybody_runs_once_before_anybody_runs_twice() -> None:
    assert list(rounds([ONE, TWO])) == [ONE, TWO, ONE, TWO, ONE]
    assert list(rounds([])) == []


def test_a_run_needs_room_for_what_it_took_before() -> None:
    allowance = Allowance(100.0, began=1_000.0)
    assert likely_seconds(ONE) < 100
    assert allowance.has_room_for(ONE, now=1_000.0)
    assert not allowance.has_room_for(ONE, now=1_099.0)
    allowance.spent(ONE, 60.0)
    allowance.spent(ONE, 5.0)
    assert allowance.has_room_for(ONE, now=1_040.0)
    assert not allowance.has_room_for(ONE, now=1_041.0), "it took 60 s once, and may again"
    assert allowance.has_room_for(TWO, now=1_041.0) == (likely_seconds(TWO) <= 59)


def test_the_short_form_has_p2pd_and_others_thrice_where_the_targets_are() -> None:
    thrice = {entrant.key for entrant in short() if entrant.runs >= 3}
    assert {("flat-10", "p2pd"), ("flat-10", "aria2"), ("sites-3x5", "p2pd"), ("sites-3x5", "aria2")} <= thrice
    assert SHORT_SECONDS < 600


def test_the_long_form_has_everybody_everywhere() -> None:
    assert {entrant.key for entrant in full()} == {(scene, name) for scene in SCENES for name in CONTENDERS}
