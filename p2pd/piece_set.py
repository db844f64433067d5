# SPDX-License-Identifier: Apache-2.0
"""A set of a torrent's pieces as one number: a whole payload's worth of set arithmetic costs microseconds."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache


@cache
def _digits(least: int) -> bytes:
    return b"0" * least + b"1" * (256 - least)


@dataclass(frozen=True, slots=True)
class PieceSet:
    """Immutable. Bit i of `bits` is piece i; a set does not know how many pieces its torrent has."""

    bits: int = 0

    @classmethod
    def of(cls, pieces: Iterable[int]) -> "PieceSet":
        """The set of these indices."""
        bits = 0
        for piece in pieces:
            bits |= 1 << piece
        return cls(bits)

    @classmethod
    def first(cls, count: int) -> "PieceSet":
        """Pieces 0 … `count` - 1."""
        return cls((1 << count) - 1)

    @classmethod
    def where(cls, flags: Sequence[int], least: int = 1) -> "PieceSet":
        """The pieces whose flag is set, or whose count is `least` (1 to 255) or more."""
        counts = bytes(min(flag, 255) for flag in reversed(flags))
        return cls(int(counts.translate(_digits(least)), 2) if counts else 0)

    @classmethod
    def held_by(cls, least: int, sets: Iterable["PieceSet"]) -> "PieceSet":
        """The pieces that at least `least` (one or more) of the sets have."""
        by_at_least = [-1] + [0] * least
        for one in sets:
            for count in range(least, 0, -1):
                by_at_least[count] |= by_at_least[count - 1] & one.bits
        return cls(by_at_least[least])

    def __contains__(self, piece: int) -> bool:
        return piece >= 0 and self.bits >> piece & 1 == 1

    def __len__(self) -> int:
        return self.bits.bit_count()

    def __bool__(self) -> bool:
        return self.bits != 0

    def __iter__(self) -> Iterator[int]:
        """The pieces in ascending order."""
        rest = self.bits
        while rest:
            lowest = rest & -rest
            yield lowest.bit_length() - 1
            rest ^= lowest

    def __or__(self, other: "PieceSet") -> "PieceSet":
        return PieceSet(self.bits | other.bits)

    def __and__(self, other: "PieceSet") -> "PieceSet":
        return PieceSet(self.bits & other.bits)

    def __sub__(self, other: "PieceSet") -> "PieceSet":
        return PieceSet(self.bits & ~other.bits)

    @property
    def lowest(self) -> int:
        """The first piece. Raises ValueError when there is none."""
        if not self.bits:
            raise ValueError("an empty set has no lowest piece")
        return (self.bits & -self.bits).bit_length() - 1

    @property
    def highest(self) -> int:
        """The last piece. Raises ValueError when there is none."""
        if not self.bits:
            raise ValueError("an empty set has no highest piece")
        return self.bits.bit_length() - 1

    def run_at(self, piece: int, longest: int) -> int:
        """How many neighbouring pieces from `piece` on are in the set, at most `longest`."""
        rest = ~(self.bits >> piece)
        return min((rest & -rest).bit_length() - 1, longest)

    def from_on(self, piece: int) -> "PieceSet":
        """The members that are not below `piece`."""
        return PieceSet(self.bits >> piece << piece)


NO_PIECES = PieceSet()
