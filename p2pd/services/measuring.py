# SPDX-License-Identifier: Apache-2.0
"""Looks at one transfer while it goes on, so that the coordinator can be told how fast the site's links are."""

from collections import Counter

import trio

from p2pd.decisions.measuring import Glance, Meter
from p2pd.ports import Transfer, TransferProgress, peer_id_of
from p2pd.services.site import Board
from signing.report import Measured

NEWS_OF_LINK = 1.1  # times what was known before: budgets are percentages of it


class Measuring:
    """One transfer from now on."""

    def __init__(self, transfer: Transfer, board: Board) -> None:
        self._transfer = transfer
        self._board = board
        self._meter = Meter()
        self._sent: Counter[bytes] = Counter()  # by peer, over the connection that it has now
        self._to_peers = 0

    def look(self, progress: TransferProgress, *, from_origin: int) -> None:
        """Note the state of now. Cheap, and may be called as often as there is news."""
        now = trio.current_time()
        if not self._meter.is_due(now):
            return
        self._count_sent()
        glance = Glance(
            at_site=_bytes(progress, len(progress.have | progress.peers_have)),
            here=_bytes(progress, len(progress.have)),
            from_origin=from_origin,
            from_peers=progress.bytes_lan,
            to_peers=self._to_peers,
            peers=frozenset(progress.peers),
        )
        self._meter.take(now, glance)
        if self._meter.wan > NEWS_OF_LINK * self._board.wan_link.value:
            self._board.wan_link.set(self._meter.wan)

    def measured(self) -> Measured | None:
        """What was seen by now; None for a transfer that was over too soon."""
        peers = {neighbour.peer_id for neighbour in self._transfer.neighbours()}
        trips = [seconds for device, seconds in self._board.latency.items() if peer_id_of(device) in peers]
        return self._meter.measured(origin_round_trip=self._board.origin_round_trip(), peer_round_trips=trips)

    def _count_sent(self) -> None:
        """A connection that was lost and made again counts from nothing."""
        for neighbour in self._transfer.neighbours():
            before = self._sent[neighbour.peer_id]
            self._to_peers += neighbour.bytes_out - (before if neighbour.bytes_out >= before else 0)
            self._sent[neighbour.peer_id] = neighbour.bytes_out


def _bytes(progress: TransferProgress, pieces: int) -> int:
    return min(pieces * progress.piece_bytes, progress.total_bytes)
