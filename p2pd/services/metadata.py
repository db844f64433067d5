# SPDX-License-Identifier: Apache-2.0
"""Keeps the verified view of the fleet fresh: from the origin, from LAN peers when that is away, from disk at start."""

import random

import trio

from p2pd.decisions.eligibility import CLOCK_SLACK_SECONDS, Refusal
from p2pd.host.backoff import jittered, restart_delay
from p2pd.host.latest import Latest, first_of
from p2pd.host.telemetry import log
from p2pd.host.wall_clock import WallClock
from p2pd.ports_control import (
    Coordinator,
    CoordinatorUnavailable,
    FromDisk,
    FromOrigin,
    FromPeer,
    MetadataSource,
    Refused,
    Trust,
    Trusted,
)
from p2pd.services.site import Board, Peer
from signing.errors import SigningError

REFRESH_SECONDS = 300.0  # when nobody hints at a change; the coordinator's long poll comes first
RETRY_CAP_SECONDS = 60.0
MAX_TRIED = 4_096

_log = log("metadata")


class MetadataKeeper:
    """Refreshes `board.trusted`. One refresh at a time: the trust client's files have one writer."""

    def __init__(self, trust: Trust, coordinator: Coordinator, board: Board, clock: WallClock) -> None:
        self._clock = clock
        self._trust = trust
        self._coordinator = coordinator
        self._board = board
        self._turn = trio.Lock()
        self._origin_reached = Latest(False)
        self._hints = Latest(0)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Refresh for ever. Ready once disk has been read, so that an offline start knows what it knew."""
        await self._refresh(FromDisk())
        task_status.started()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow_coordinator)
            nursery.start_soon(self._follow_peers)
            failures, hints = 0, self._hints.watch()
            while True:
                reached = await self._refresh(FromOrigin())
                self._origin_reached.set(reached)
                failures = 0 if reached else failures + 1
                pause = REFRESH_SECONDS if reached else restart_delay(failures, cap_seconds=RETRY_CAP_SECONDS)
                await first_of(hints.changed, seconds=_spread(pause))

    async def _follow_coordinator(self) -> None:
        failures = 0
        while True:
            known = self._board.trusted.value
            version = known.timestamp_version if known is not None else 0
            try:
                newest = await self._coordinator.wait_for_change(version)
            except (CoordinatorUnavailable, Refused):  # a static origin without a coordinator refuses, too
                failures += 1
                if failures == 1:  # is the origin away as well? Then peers are to be asked, and not in five minutes
                    self._hints.set(self._hints.value + 1)
                await trio.sleep(_spread(restart_delay(failures, cap_seconds=RETRY_CAP_SECONDS)))
                continue
            if failures or newest > version:
                failures = 0
                self._hints.set(self._hints.value + 1)
                await self._wait_for_version(newest)

    async def _wait_for_version(self, version: int) -> None:
        """Let the refresh catch up before asking again, but not for ever: it may be failing."""
        trusted = self._board.trusted.watch()
        known = self._board.trusted.value
        if known is None or known.timestamp_version < version:
            await first_of(trusted.changed, seconds=_spread(RETRY_CAP_SECONDS / 10))

    async def _follow_peers(self) -> None:
        """While the origin is away, ask every peer whose announcement shows that it knows something else."""
        peers, reached = self._board.peers.watch(), self._origin_reached.watch()
        tried: set[tuple[str, frozenset[bytes], int]] = set()
        while True:
            if not self._origin_reached.value:
                await self._ask_peers(tried)
            await first_of(peers.changed, reached.changed)

    async def _ask_peers(self, tried: set[tuple[str, frozenset[bytes], int]]) -> None:
        for peer in tuple(self._board.peers.value.values()):
            known = self._board.trusted.value
            mark = (peer.device, peer.tags, known.timestamp_version if known is not None else 0)
            if peer.mirror is None or not peer.has_other_state or mark in tried:
                continue
            if len(tried) >= MAX_TRIED:
                tried.clear()
            tried.add(mark)
            await self._refresh_from(peer)

    async def _refresh_from(self, peer: Peer) -> None:
        if peer.mirror is not None and await self._refresh(FromPeer(peer.mirror)):
            _log.info("metadata refreshed from a peer", peer=peer.device)

    async def _refresh(self, source: MetadataSource) -> bool:
        async with self._turn:
            try:
                trusted = await self._trust.refresh(source)
            except SigningError as problem:
                # A peer's stale or hostile copy, or an empty disk, says nothing about the fleet.
                if isinstance(source, FromOrigin):
                    self._board.metadata_problem.set(Refusal(reason=problem.reason, detail=str(problem)))
                _log.info(
                    "metadata not refreshed", source=type(source).__name__, reason=problem.reason, why=str(problem)
                )
                return False
        self._raise_clock_floor(trusted)
        self._board.metadata_problem.set(None)
        self._board.trusted.set(trusted)
        return True

    def _raise_clock_floor(self, trusted: Trusted) -> None:
        """A clock set back later cannot revive what has expired by now.

        A schedule from the future raises nothing: either our clock is wrong or the coordinator's, and both are refused
        where schedules are checked.
        """
        schedule = trusted.schedule
        if schedule is not None and schedule.issued <= self._clock.unix() + CLOCK_SLACK_SECONDS:
            self._clock.raise_floor(schedule.issued)


def _spread(seconds: float) -> float:
    return jittered(seconds, 0.2, draw=random.random())  # noqa: S311 (spreads load, guards nothing)
