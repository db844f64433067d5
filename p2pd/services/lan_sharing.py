# SPDX-License-Identifier: Apache-2.0
"""All torrents of this endpoint share the LAN by severity: `decisions.sharing` says which are held back, and how much.

libtorrent shares among connections, whatever they carry, so that less severe torrents get limits of their own, in both
directions, while a more severe one has a backlog at peers. An endpoint holds back what it takes itself, and gives;
those who do not want the severe patch at all notice only what others do not give them.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from p2pd.decisions.sharing import WEIGHTS, LanLeg, lan_limits
from p2pd.ports import Transfer
from signing.manifest import Severity

WINDOW_SECONDS = 1.0  # over which a pace is measured, and after which it is decided anew
LINK_SECONDS = 30.0  # the best window of so long counts as what the LAN can do


class LanSharing:
    """One for all transfers of an agent. Moments are trio's."""

    def __init__(self) -> None:
        self._shares: set[LanShare] = set()
        self._restrained = trio.Event()
        self._best: deque[tuple[float, float]] = deque()  # by moment, what all together brought a second, falling

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Lift limits when their cause is over, for ever; sleeps while there are none."""
        task_status.started()
        while True:
            await self._restrained.wait()
            await trio.sleep(WINDOW_SECONDS)
            self.decide()

    @contextmanager
    def join(self, severity: Severity, transfer: Transfer) -> "Iterator[LanShare]":
        """A share for one transfer, while the block lasts."""
        share = LanShare(self, transfer, weight=WEIGHTS[severity])
        self._shares.add(share)
        try:
            yield share
        finally:
            self._shares.remove(share)
            self.decide()

    def decide(self) -> None:
        """Look at everybody, and set their limits."""
        legs = {share: share.look() for share in self._shares}
        limits = lan_limits(legs, link=self._link(sum(leg.pace for leg in legs.values())))
        if all(limit is None for limit in limits.values()):
            self._restrained = trio.Event()
        else:
            self._restrained.set()
        for share, limit in limits.items():
            share.restrain(None if limit is None else int(limit))

    def _link(self, pace: float) -> float:
        now = trio.current_time()
        while self._best and self._best[-1][1] <= pace:
            self._best.pop()
        self._best.append((now, pace))
        while self._best[0][0] < now - LINK_SECONDS:
            self._best.popleft()
        return self._best[0][1]


class LanShare:
    """One transfer's part in a `LanSharing`; made by its `join`."""

    def __init__(self, sharing: LanSharing, transfer: Transfer, *, weight: int) -> None:
        self._sharing = sharing
        self._transfer = transfer
        self._leg = LanLeg(weight=weight)
        self._limit: int | None = None
        self._since = trio.current_time()
        self._bytes = transfer.progress().bytes_lan

    @property
    def is_restrained(self) -> bool:
        """Whether it is held back for a more severe one."""
        return self._limit is not None

    def note(self) -> None:
        """There is progress. Cheap, and may be called as often as there is."""
        if trio.current_time() - self._since >= WINDOW_SECONDS:
            self._sharing.decide()

    def look(self) -> LanLeg:
        """For the sharing: what it moves, over a window that has ended."""
        now = trio.current_time()
        seconds = now - self._since
        if seconds >= WINDOW_SECONDS:
            progress = self._transfer.progress()
            self._leg = LanLeg(
                weight=self._leg.weight,
                backlog=len(progress.peers_have - progress.have) * progress.piece_bytes,
                piece_bytes=progress.piece_bytes,
                pace=(progress.bytes_lan - self._bytes) / seconds,
            )
            self._since, self._bytes = now, progress.bytes_lan
        return self._leg

    def restrain(self, limit: int | None) -> None:
        """For the sharing: at most so many bytes per second each way."""
        if limit != self._limit:
            self._limit = limit
            self._transfer.limit(upload=limit, download=limit)
