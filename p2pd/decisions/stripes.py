# SPDX-License-Identifier: Apache-2.0
"""Which pieces an ambassador asks the origin for: its own stripe first, then what slower ones would bring last.

Nobody tells anybody what it fetches, so the division has to do it: all endpoints that see the same ambassadors divide
alike. Stripes are equally long, and a death moves little more than the dead one's pieces (rendezvous hashing with
bounded loads: Mirrokni, Thorup & Zadimoghaddam 2018).
"""

import hashlib
from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import lru_cache

from p2pd.piece_set import NO_PIECES, PieceSet

LONGEST_UNIT = 4  # neighbouring pieces that stay together, so that one request brings them
LEAST_UNITS = 128  # where there are so many pieces: the fewer, the coarser the division


@dataclass(frozen=True, kw_only=True)
class PieceRun:
    """Neighbouring pieces that one range request brings."""

    first: int
    count: int

    @property
    def pieces(self) -> PieceSet:
        """All of them."""
        return PieceSet(((1 << self.count) - 1) << self.first)


@dataclass(frozen=True, kw_only=True)
class Division:
    """Who brings what, by ambassador: its own stripe, and what it takes of others' when its own is done.

    Each piece is in one stripe, and in one reserve, which belongs to somebody else (with a single ambassador: in none).
    """

    stripes: dict[str, PieceSet]
    reserves: dict[str, PieceSet]


@lru_cache(maxsize=64)
def divide(ambassadors: tuple[str, ...], piece_count: int) -> Division:
    """Divide a torrent's pieces. The order of `ambassadors` does not matter, except that they must be distinct."""
    devices = sorted(ambassadors)
    unit = max(1, min(LONGEST_UNIT, piece_count // LEAST_UNITS))  # whoever lives: or a death would move everything
    units = range(0, piece_count, unit)
    room = dict.fromkeys(devices, -(-len(units) // len(devices)))
    stripes, reserves = dict.fromkeys(devices, 0), dict.fromkeys(devices, 0)
    for start in units:
        pieces = ((1 << min(unit, piece_count - start)) - 1) << start
        in_order = sorted(devices, key=lambda device: _score(start, device), reverse=True)
        owner = next(device for device in in_order if room[device])
        room[owner] -= 1
        stripes[owner] |= pieces
        second = next((device for device in in_order if device != owner), None)
        if second is not None:
            reserves[second] |= pieces
    return Division(
        stripes={device: PieceSet(bits) for device, bits in stripes.items()},
        reserves={device: PieceSet(bits) for device, bits in reserves.items()},
    )


def next_run(
    *,
    me: str,
    ambassadors: Sequence[str],
    piece_count: int,
    wanted: PieceSet,
    longest: int,
    guard: int = 0,
    silent: Container[str] = frozenset(),
    start_at: int = 0,
) -> PieceRun | None:
    """The next pieces to ask the origin for, or None.

    `wanted` are those that nobody on the site has and that are not on their way to `me`. Of its own stripe an
    ambassador takes the first ones, from `start_at` on and round again. Then it takes of its reserve, from the end of
    the stripe that has most left, but not the `guard` pieces that the owner of the stripe asks for next: owner and
    helper come towards each other, and do not meet. Only of those who are `silent` it takes these too.
    """
    division = divide(tuple(ambassadors), piece_count)
    own = wanted & division.stripes[me]
    if own:
        first = (own.from_on(start_at) or own).lowest
        return PieceRun(first=first, count=own.run_at(first, longest))
    open_pieces, most_left = NO_PIECES, 0
    for owner, stripe in division.stripes.items():
        left = wanted & stripe
        if owner == me:
            continue
        spare = _without_lowest(left, 0 if owner in silent else guard) & division.reserves[me]
        if spare and len(left) > most_left:
            open_pieces, most_left = spare, len(left)
    if not open_pieces:
        return None
    last = open_pieces.highest
    first = last
    while first > 0 and first - 1 in open_pieces and last - first + 1 < longest:
        first -= 1
    return PieceRun(first=first, count=last - first + 1)


def entry_point(me: str, piece_count: int) -> int:
    """Where one who takes over begins: a place of its own, so that it does not fetch what is on its way already."""
    return int.from_bytes(hashlib.sha256(me.encode()).digest()[:8]) % piece_count


def _score(unit: int, device: str) -> bytes:
    return hashlib.blake2b(f"{unit}\0{device}".encode(), digest_size=8).digest()


def _without_lowest(pieces: PieceSet, count: int) -> PieceSet:
    bits = pieces.bits
    for _ in range(min(count, len(pieces))):
        bits &= bits - 1
    return PieceSet(bits)
