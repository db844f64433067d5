# SPDX-License-Identifier: Apache-2.0
"""Keeps the verified view of the fleet fresh: from the origin, from LAN peers when that is away, from disk at start."""

import math
import random
from dataclasses import replace

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
    StorageFailed,
    Trust,
    Trusted,
    TrustProblem,
)
from p2pd.services.site import Board
from signing.errors import SigningError
from signing.reasons import Reason

REFRESH_SECONDS = 300.0  # when nobody hints at a change; the coordinator's long poll comes first
RETRY_CAP_SECONDS = 60.0
AT_ONCE_SECONDS = 1.0  # a long poll that ends sooner, and with nothing new, is a cache's answer
PEER_SECONDS = 30.0  # for a refresh from a peer: on a LAN it takes about one
ASK_AGAIN_SECONDS = 300.0  # a peer that announces the same as when it was asked: it may have been away then
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
        self._newest = 0  # timestamp version that the coordinator told of, until it has been asked for
        self._peer_refresh = trio.CancelScope()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Refresh for ever. Ready once disk has been read, so that an offline start knows what it knew."""
        async with self._turn:
            remembered = await self._fetch(FromDisk())
            if remembered is not None:
                self._accept(remembered)
        task_status.started()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow_coordinator)
            nursery.start_soon(self._follow_peers)
            failures, hints, here = 0, self._hints.watch(), self._board.here.watch()
            while True:
                whole = await self._refresh_from_origin()
                failures = 0 if whole else failures + 1
                pause = REFRESH_SECONDS if whole else restart_delay(failures, cap_seconds=RETRY_CAP_SECONDS)
                await first_of(hints.changed, here.changed, seconds=_spread(pause))

    async def _follow_coordinator(self) -> None:
        failures, idle, here = 0, 0, self._board.here.watch()
        while True:
            known = self._board.trusted.value
            version = known.timestamp_version if known is not None else 0
            began = trio.current_time()
            try:
                newest = await self._coordinator.wait_for_change(version)
            except (CoordinatorUnavailable, Refused) as problem:
                failures += 1  # a static origin without a coordinator refuses, too
                if failures == 1:  # is the origin away as well? Then peers are to be asked, and not in five minutes
                    reason = problem.reason if isinstance(problem, Refused) else None
                    _log.info("the coordinator tells no news", reason=reason, why=str(problem))
                    self._hint()
                # On another network it may be reached at once.
                await first_of(here.changed, seconds=_spread(restart_delay(failures, cap_seconds=RETRY_CAP_SECONDS)))
                continue
            if failures or newest > version:
                failures = 0
                self._newest = newest
                self._peer_refresh.cancel()  # what the origin has is newer, and seconds matter in a recall
                self._hint()
                await self._wait_for_version(newest)
            if self._has(newest) and (newest > version or trio.current_time() - began >= AT_ONCE_SECONDS):
                idle = 0
            else:  # a proxy answers in the coordinator's place, or its news cannot be had
                idle += 1
                await trio.sleep(_spread(restart_delay(idle, cap_seconds=RETRY_CAP_SECONDS)))

    def _hint(self) -> None:
        self._hints.set(self._hints.value + 1)

    def _has(self, version: int) -> bool:
        known = self._board.trusted.value
        return known is not None and known.timestamp_version >= version

    async def _wait_for_version(self, version: int) -> None:
        """Let the refresh catch up before asking again, but not for ever: it may be failing."""
        trusted = self._board.trusted.watch()
        if not self._has(version):
            await first_of(trusted.changed, seconds=_spread(RETRY_CAP_SECONDS / 10))

    async def _follow_peers(self) -> None:
        """While the origin is away, ask every peer whose announcement shows that it knows something else."""
        peers, reached = self._board.peers.watch(), self._origin_reached.watch()
        tried: dict[tuple[str, frozenset[bytes], int], float] = {}
        while True:
            pause = math.inf
            if not self._origin_reached.value:
                # The origin goes first; should it fail all the same, peers are asked again.
                pause = ASK_AGAIN_SECONDS if await self._ask_peers(tried) else 1.0
            await first_of(peers.changed, reached.changed, seconds=pause)

    async def _ask_peers(self, tried: dict[tuple[str, frozenset[bytes], int], float]) -> bool:
        """False: the origin interrupted."""
        for peer in tuple(self._board.peers.value.values()):
            known = self._board.trusted.value
            mark = (peer.device, peer.tags, known.timestamp_version if known is not None else 0)
            is_asked = trio.current_time() - tried.get(mark, -math.inf) < ASK_AGAIN_SECONDS
            if peer.mirror is None or not peer.has_other_state or is_asked:
                continue
            if len(tried) >= MAX_TRIED:
                tried.clear()
            tried[mark] = trio.current_time()
            if not await self._refresh_from_peer(peer.device, FromPeer(peer.mirror)):
                del tried[mark]
                return False
        return True

    async def _refresh_from_origin(self) -> bool:
        """Whether all was there, so that the next refresh may wait for a hint."""
        async with self._turn:
            newest, self._newest = self._newest, 0  # if what is told of it is of no use, the files themselves may be
            trusted = await self._fetch(FromOrigin(newest=0 if self._has(newest) else newest))
            if trusted is not None:
                self._accept(trusted)
            self._origin_reached.set(trusted is not None)  # in our turn, so that no peer is asked in between
        return trusted is not None and not _is_partly_away(trusted)

    async def _refresh_from_peer(self, device: str, source: FromPeer) -> bool:
        """False: the origin came back meanwhile, which makes peers' copies needless."""
        async with self._turn:
            if self._origin_reached.value:
                return False
            trusted = None
            with trio.move_on_after(PEER_SECONDS) as self._peer_refresh:
                trusted = await self._fetch(source)
            if trusted is not None:
                _log.info("metadata refreshed from a peer", peer=device)
                self._accept(self._without_gaps(trusted))
            return not (self._peer_refresh.cancelled_caught and trio.current_time() < self._peer_refresh.deadline)

    async def _fetch(self, source: MetadataSource) -> Trusted | None:
        try:
            return await self._trust.refresh(source)
        except (SigningError, StorageFailed) as problem:
            # A peer's stale or hostile copy, or an empty disk, says nothing about the fleet.
            if isinstance(source, FromOrigin):
                self._board.metadata_problem.set(Refusal(reason=problem.reason, detail=str(problem)))
            _log.info("metadata not refreshed", source=type(source).__name__, reason=problem.reason, why=str(problem))
            return None

    def _accept(self, trusted: Trusted) -> None:
        self._raise_clock_floor(trusted)
        self._board.metadata_problem.set(_refusal(trusted.general_problem))
        self._board.trusted.set(trusted)

    def _without_gaps(self, trusted: Trusted) -> Trusted:
        """A peer that holds something back takes nothing away from us, and its recalls count all the same."""
        known = self._board.trusted.value
        if known is None or trusted.general_problem is None:
            return trusted
        return replace(known, recalls=trusted.recalls)

    def _raise_clock_floor(self, trusted: Trusted) -> None:
        """A clock set back later cannot revive what has expired by now.

        A schedule from the future raises nothing: either our clock is wrong or the coordinator's, and both are refused
        where schedules are checked.
        """
        schedule = trusted.schedule
        if schedule is not None and schedule.issued <= self._clock.unix() + CLOCK_SLACK_SECONDS:
            self._clock.raise_floor(schedule.issued)


def _is_partly_away(trusted: Trusted) -> bool:
    """Something could not be fetched, so that another look soon may bring it."""
    reasons = {problem.reason for problem in (trusted.general_problem, *trusted.problems) if problem is not None}
    return bool(reasons & {Reason.METADATA_UNREACHABLE, Reason.DISK_FULL, Reason.STORAGE_FAILED})


def _refusal(problem: TrustProblem | None) -> Refusal | None:
    return Refusal(reason=problem.reason, detail=problem.detail) if problem is not None else None


def _spread(seconds: float) -> float:
    return jittered(seconds, 0.2, draw=random.random())  # noqa: S311 (spreads load, guards nothing)
