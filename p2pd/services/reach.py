# SPDX-License-Identifier: Apache-2.0
"""Watches whether a delta that is being fetched can be had at all: its pieces, the origin, and the neighbours.

`decisions/transports.py` has the rule. Pieces are counted when something else is news or a patience is over, so it may
take up to one patience longer than the rule says.
"""

from collections.abc import Callable

import trio

from p2pd.decisions.eligibility import Refusal
from p2pd.decisions.transports import PATIENCE_SECONDS, Prospects, Way, seconds_to_judgement, why_give_up
from p2pd.host.latest import first_of
from p2pd.services.carrying import Carriage
from p2pd.services.site import Board
from signing.reasons import Reason


class Reach:
    """One delta from now on. `refusal` says why it had better be given up, once `lost` has returned.

    `otherwise` gives what would be chosen instead; while policy refuses that, the delta is never given up.
    """

    def __init__(self, carriage: Carriage, board: Board, *, otherwise: Callable[[], Way | Refusal | None]) -> None:
        self.refusal: Refusal | None = None
        self._carriage = carriage
        self._board = board
        self._otherwise = otherwise
        self._pieces = 0
        self._since = trio.current_time()  # the last piece was seen to have come
        self._was_refused = False  # by the origin, since then

    async def lost(self) -> None:
        """Return once there is a refusal. May be cancelled and called again: nothing is forgotten."""
        peers, waiting = self._board.peers.watch(), self._carriage.received.waiting.watch()
        while True:
            self._look()
            if self.refusal is not None:
                return
            idle = trio.current_time() - self._since
            await first_of(peers.changed, waiting.changed, seconds=seconds_to_judgement(idle))

    def _look(self) -> None:
        transfer = self._carriage.transfer
        pieces = len(transfer.progress().have) if transfer is not None else 0
        if pieces > self._pieces:
            self._since, self._was_refused = trio.current_time(), False
        self._pieces = max(pieces, self._pieces)
        if self._carriage.received.waiting.value is Reason.ORIGIN_REFUSED:
            self._was_refused = True
        idle = trio.current_time() - self._since
        way = self._otherwise() if idle >= PATIENCE_SECONDS else None
        if isinstance(way, Way):
            is_announced = self._is_announced(way.torrent.info_hash)
            prospects = Prospects(idle=idle, is_refused=self._was_refused, is_announced=is_announced)
            self.refusal = why_give_up(prospects)

    def _is_announced(self, info_hash: str) -> bool:
        return any(info_hash in peer.info_hashes for peer in self._board.peers.value.values())
