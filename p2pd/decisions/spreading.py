# SPDX-License-Identifier: Apache-2.0
"""Whether an ambassador is ahead of its own uplink: what it has brought lies here, and its peers wait for it.

Bringing more would only take the WAN from ambassadors whose uplinks are idle. Pure: `now` is an argument.
"""

import math

from p2pd.piece_set import PieceSet

MOST_PIECES = 4  # brought, and had by fewer than half of the peers, that are no backlog yet
PATIENCE = 1.0  # seconds since a piece last spread: peers who take nothing hold nobody up


class Backlog:
    """One ambassador's, of one torrent; moments are seconds on one monotonic clock."""

    def __init__(self) -> None:
        self._spread = 0
        self._moved_at = -math.inf

    def holds(self, brought: PieceSet, spread: PieceSet, *, now: float) -> bool:
        """Whether to bring nothing more for now.

        `brought` are the pieces that came to the peers through this endpoint, `spread` those that half of them have.
        """
        count = len(brought & spread)
        if count != self._spread:
            self._spread, self._moved_at = count, now
        return len(brought - spread) > MOST_PIECES and now < self._moved_at + PATIENCE
