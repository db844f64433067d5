# SPDX-License-Identifier: Apache-2.0
"""Keeps the agent within its budgets and gates: sets the pacer, the swarm's limits, and `board.passage`.

It works when something has changed: the policy, the host's addresses, what is carried, the hour; and every
LOOK_SECONDS, since nothing tells of a battery or of a route.
"""

from collections.abc import Callable, Mapping

import trio

from p2pd.decisions.budgets import Grant, grant, stricter_of
from p2pd.decisions.network_gates import passage
from p2pd.host.latest import first_of
from p2pd.host.telemetry import log
from p2pd.host.wall_clock import WallClock
from p2pd.ports import Swarm
from p2pd.ports_network import HostFacts, HostLooks, Whereabouts
from p2pd.services.site import Board
from p2pd.services.wan_pacing import Pacer
from signing.budgets import Budgets, NetworkGates
from signing.policy import Limits

LOOK_SECONDS = 120.0  # a laptop's battery loses about two percent meanwhile
SOON_SECONDS = 2.0  # after the first download of a while: then its link has been measured

_log = log("limiting")


class Limiter:
    """`own` and `own_gates` are this endpoint's, besides the policy's; `swarm_limits` hold at all hours: (up, down)."""

    def __init__(
        self,
        *,
        pacer: Pacer,
        swarm: Swarm,
        looks: HostLooks,
        board: Board,
        clock: WallClock,
        origin_host: str,
        own: Budgets,
        own_gates: NetworkGates,
        swarm_limits: tuple[int | None, int | None],
        is_urgent: Callable[[], bool],
    ) -> None:
        self._pacer = pacer
        self._swarm = swarm
        self._looks = looks
        self._board = board
        self._clock = clock
        self._origin_host = origin_host
        self._own = own
        self._own_gates = own_gates
        self._swarm_limits = swarm_limits
        self._is_urgent = is_urgent
        self._place: Whereabouts | None = None
        self._set: tuple[object, ...] = ()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep to the limits for ever. Ready once they are set for the first time."""
        board = self._board
        trusted, here, carried = board.trusted.watch(), board.here.watch(), board.carried.watch()
        moving, link = self._pacer.moving.watch(), board.wan_link.watch()
        facts = await self._look()
        task_status.started()
        while True:
            seconds = self._apply(facts)
            news = (trusted.changed, here.changed, carried.changed, moving.changed, link.changed)
            await first_of(*news, seconds=seconds)
            facts = await self._look()

    async def _look(self) -> HostFacts:
        here = self._board.here.value
        if self._place is not None and here != self._place:
            self._pacer.forget_link()
            self._board.wan_link.set(0.0)
        self._place = here
        return await self._looks.look(origin=self._origin_host, hosts=here.hosts)

    def _apply(self, facts: HostFacts) -> float:
        """Set everything; seconds until it has to be done again even if nothing happens."""
        trusted = self._board.trusted.value
        limits = trusted.policy.limits if trusted is not None else Limits()
        now = self._clock.now().astimezone()  # the calendar is that of the people here
        budgets = (limits.budgets, self._own)
        granted = grant(budgets, now=now, wan_link=self._wan_link(), lan_link=facts.lan_link)
        allowed = passage((limits.network, self._own_gates), facts)
        yields = all(budget.critical_yields for budget in budgets) or not self._is_urgent()
        # On one link with the LAN's own pieces, their queue would be taken for a person's, and the origin starve.
        yields = yields and not facts.is_origin_near
        self._pacer.allow(granted.wan, yields=yields)
        self._board.passage.set(allowed)
        up, down = self._swarm_limits
        up_now = stricter_of(up, granted.lan) if allowed.may_upload else 0
        down_now = stricter_of(down, granted.lan) if allowed.may_download else 0
        self._swarm.limit(upload=_whole(up_now), download=_whole(down_now))
        self._tell(allowed.reason, allowed.upload_reason, granted, yields)
        return self._seconds(granted)

    def _wan_link(self) -> float:
        """The most that is known to fit: what came here, to the site as far as it is seen, or as the schedule says.

        Each is a part of it at least, so that a percentage of it is never more than that of the link.
        """
        trusted = self._board.trusted.value
        rates = trusted.schedule.rates if trusted is not None and trusted.schedule is not None else None
        return max(self._pacer.link, self._board.wan_link.value, float(rates.wan_bytes_per_s) if rates else 0.0)

    def _seconds(self, granted: Grant) -> float:
        if granted.until is None:
            soonest = LOOK_SECONDS
        else:
            left = (granted.until - self._clock.now()).total_seconds()
            soonest = min(LOOK_SECONDS, max(left, 1.0))
        return min(soonest, SOON_SECONDS) if self._pacer.moving.value and self._pacer.link == 0 else soonest

    def _tell(self, reason: object, upload_reason: object, granted: Grant, yields: bool) -> None:
        told: Mapping[str, object] = {
            "reason": reason,
            "upload_reason": upload_reason,
            "wan_bytes_per_second": granted.wan,
            "lan_bytes_per_second": granted.lan,
            "yields": yields,
        }
        if tuple(told.values()) != self._set:
            self._set = tuple(told.values())
            _log.info("limits", **told)


def _whole(limit: float | None) -> int | None:
    return None if limit is None else int(limit)
