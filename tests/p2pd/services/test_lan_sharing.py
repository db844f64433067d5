# SPDX-License-Identifier: Apache-2.0
"""Torrents of one endpoint beside each other on the LAN: who is held back, for how long, and that it ends."""

from dataclasses import dataclass, field
from typing import cast

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from p2pd.decisions.sharing import LEAST_LAN_RATE
from p2pd.piece_set import NO_PIECES, PieceSet
from p2pd.ports import Transfer, TransferProgress
from p2pd.services.lan_sharing import LanSharing
from signing.manifest import Severity

PIECES, PIECE_BYTES = 400, 2**18


@dataclass
class Torrent:
    """A torrent whose pieces the test moves."""

    have: PieceSet = NO_PIECES
    peers_have: PieceSet = field(default_factory=lambda: PieceSet.first(PIECES))
    bytes_lan: int = 0
    limits: list[tuple[int | None, int | None]] = field(default_factory=lambda: [(None, None)])

    def progress(self) -> TransferProgress:
        return TransferProgress(
            piece_count=PIECES,
            piece_bytes=PIECE_BYTES,
            total_bytes=PIECES * PIECE_BYTES,
            have=self.have,
            peers_have=self.peers_have,
            spread=self.peers_have,
            on_disk=NO_PIECES,
            peers=(),
            bytes_lan=self.bytes_lan,
            is_complete=len(self.have) == PIECES,
        )

    def take(self, count: int) -> None:
        """So many more pieces come from peers."""
        self.have = PieceSet.first(len(self.have) + count)
        self.bytes_lan += count * PIECE_BYTES

    def limit(self, *, upload: int | None, download: int | None) -> None:
        self.limits.append((upload, download))

    def rate(self) -> tuple[int | None, int | None]:
        return self.limits[-1]

    @property
    def as_transfer(self) -> Transfer:
        return cast("Transfer", self)  # all that a share asks of one


async def test_the_lesser_stands_back_while_the_severe_one_has_a_backlog_and_no_longer(
    frozen_clock: MockClock,
) -> None:
    low, critical, sharing = Torrent(), Torrent(), LanSharing()
    async with trio.open_nursery() as nursery:
        await nursery.start(sharing.run)
        with (
            sharing.join(Severity.LOW, low.as_transfer) as low_share,
            sharing.join(Severity.CRITICAL, critical.as_transfer) as critical_share,
        ):
            for _ in range(2):
                frozen_clock.jump(1)
                low.take(20)
                critical.take(20)
                low_share.note()
                critical_share.note()
            both_ways = 40 * PIECE_BYTES // 65
            assert low.rate() == (both_ways, both_ways)
            restrained = [low_share.is_restrained]
            assert critical.rate() == (None, None)
            critical.take(PIECES - 40)
            await wait_all_tasks_blocked()
            frozen_clock.jump(1.5)
            await wait_all_tasks_blocked()
            assert low.rate() == (None, None)
            restrained.append(low_share.is_restrained)
            assert restrained == [True, False]
        nursery.cancel_scope.cancel()


async def test_one_who_is_offered_everything_and_sent_nothing_holds_nobody_back_for_long(
    frozen_clock: MockClock,
) -> None:
    """Its peers hang: no news ever comes of it, and the limit is lifted all the same."""
    low, critical, sharing = Torrent(), Torrent(), LanSharing()
    async with trio.open_nursery() as nursery:
        await nursery.start(sharing.run)
        with (
            sharing.join(Severity.LOW, low.as_transfer),
            sharing.join(Severity.CRITICAL, critical.as_transfer) as critical_share,
        ):
            frozen_clock.jump(1)
            critical.take(1)
            critical_share.note()
            assert low.rate() == (int(LEAST_LAN_RATE), int(LEAST_LAN_RATE))
            for _ in range(2):
                await wait_all_tasks_blocked()
                frozen_clock.jump(1)
            await wait_all_tasks_blocked()
            assert low.rate() == (None, None)
        nursery.cancel_scope.cancel()


async def test_one_that_leaves_holds_nobody_back(frozen_clock: MockClock) -> None:
    low, critical, sharing = Torrent(), Torrent(), LanSharing()
    with sharing.join(Severity.LOW, low.as_transfer):
        with sharing.join(Severity.CRITICAL, critical.as_transfer) as critical_share:
            frozen_clock.jump(1)
            critical.take(10)
            critical_share.note()
            assert low.rate()[0] is not None
        assert low.rate() == (None, None)
