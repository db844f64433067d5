# SPDX-License-Identifier: Apache-2.0
"""Which pieces an ambassador asks the origin for, and in which requests."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PieceRun:
    """Neighbouring pieces that one range request brings."""

    first: int
    count: int


def owner(piece: int, ambassadors: Sequence[str]) -> str:
    """The ambassador that a piece belongs to: the highest rendezvous hash, so that a death moves only its pieces."""
    return max(ambassadors, key=lambda device: hashlib.sha256(f"{piece}\0{device}".encode()).digest())


def entry_point(me: str, piece_count: int) -> int:
    """Where one who takes over begins: a place of its own, so that it does not fetch what is on its way already."""
    return int.from_bytes(hashlib.sha256(me.encode()).digest()[:8]) % piece_count


def next_run(
    *,
    me: str,
    ambassadors: Sequence[str],
    have: Sequence[bool],
    peers_have: Sequence[bool],
    longest: int,
    start_at: int = 0,
) -> PieceRun | None:
    """The next pieces to ask the origin for: mine, that nobody on the site has, from `start_at` on and round again.

    None: nothing to ask.
    """
    count = len(have)
    wanted = [
        not here and not there and owner(piece, ambassadors) == me
        for piece, (here, there) in enumerate(zip(have, peers_have, strict=True))
    ]
    first = next((piece % count for piece in range(start_at, start_at + count) if wanted[piece % count]), None)
    if first is None:
        return None
    end = first
    while end < count and wanted[end] and end - first < longest:
        end += 1
    return PieceRun(first=first, count=end - first)
