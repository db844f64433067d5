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


def next_run(
    *,
    me: str,
    ambassadors: Sequence[str],
    have: Sequence[bool],
    peers_have: Sequence[bool],
    longest: int,
) -> PieceRun | None:
    """The next pieces to ask the origin for: mine, that nobody on the site has, lowest first. None: nothing to ask."""
    first: int | None = None
    count = 0
    for piece, (here, there) in enumerate(zip(have, peers_have, strict=True)):
        wanted = not here and not there and owner(piece, ambassadors) == me
        if wanted and first is None:
            first, count = piece, 1
        elif wanted and count < longest:
            count += 1
        elif first is not None:
            break
    return None if first is None else PieceRun(first=first, count=count)
