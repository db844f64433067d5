# SPDX-License-Identifier: Apache-2.0
"""What a benchmark runs, in which order, and what it leaves out when its time is short.

Rounds are interleaved: every contender of every scene has its first run before any has its second.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.contenders.contender import Contender
from bench.scenes import Scene

SECONDS_PER_DAEMON = 0.8  # to start one, on two cores …
SECONDS_PER_RUN = 12.0  # … and for the lab, the seed, the idle look, and taking it all down
LIKELY_RATIO = 3.0  # of a contender that has not been seen yet


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """One contender in one scene, for so many runs."""

    scene: Scene
    contender: Contender
    runs: int

    @property
    def key(self) -> tuple[str, str]:
        """Scene and contender, by name."""
        return self.scene.name, self.contender.name


def rounds(entrants: Sequence[Entrant]) -> Iterator[Entrant]:
    """All runs of all entrants, round by round."""
    for number in range(max((entrant.runs for entrant in entrants), default=0)):
        yield from (entrant for entrant in entrants if number < entrant.runs)


class Allowance:
    """Seconds that may be spent on runs; infinite for those who have time."""

    def __init__(self, seconds: float, *, began: float) -> None:
        self._ends_at = began + seconds
        self._took: dict[tuple[str, str], float] = {}

    def has_room_for(self, entrant: Entrant, *, now: float) -> bool:
        """Whether a run is likely to be over in time: it takes as long as it took before, or as one guesses."""
        return now + self._took.get(entrant.key, likely_seconds(entrant)) <= self._ends_at

    def spent(self, entrant: Entrant, seconds: float) -> None:
        """Remember how long a run took in all."""
        self._took[entrant.key] = max(seconds, self._took.get(entrant.key, 0.0))


def likely_seconds(entrant: Entrant) -> float:
    """How long a run takes in all, of a contender that nothing is known of."""
    scene = entrant.scene
    return (
        SECONDS_PER_RUN + SECONDS_PER_DAEMON * scene.endpoints + LIKELY_RATIO * scene.limit_seconds(scene.payload_bytes)
    )
