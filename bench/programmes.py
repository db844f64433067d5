# SPDX-License-Identifier: Apache-2.0
"""The short and the long benchmark: who runs where, how often."""

from bench.contenders.all import CONTENDERS
from bench.programme import Entrant
from bench.scenes import SCENES

SHORT_SECONDS = 540.0  # `make bench` is to be done in ten minutes, with what it installs and draws
SHORT_RUNS = 3
FULL_RUNS = 3
# The strongest of the others, as measured in the long form; each takes part where it is.
_SHORT = (
    ("flat-10", "p2pd", SHORT_RUNS),
    ("flat-10", "aria2", SHORT_RUNS),
    ("flat-10", "uftp", SHORT_RUNS),
    ("sites-3x5", "p2pd", SHORT_RUNS),
    ("sites-3x5", "aria2", SHORT_RUNS),
    ("sites-3x5-killed", "p2pd", 1),
    ("sites-3x5-lossy", "p2pd", 1),
    ("flat-40", "p2pd", 1),
    ("flat-40", "uftp", 1),
)


def short() -> list[Entrant]:
    """What fits into ten minutes, the most telling first: the last ones are left out on a slow machine."""
    return [
        Entrant(scene=SCENES[scene], contender=CONTENDERS[contender], runs=runs) for scene, contender, runs in _SHORT
    ]


def full() -> list[Entrant]:
    """Everybody everywhere: an hour and a half."""
    return [
        Entrant(scene=scene, contender=contender, runs=FULL_RUNS)
        for scene in SCENES.values()
        for contender in CONTENDERS.values()
    ]
