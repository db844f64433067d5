# SPDX-License-Identifier: Apache-2.0
"""Keeps this endpoint where its host is: after each change of addresses, everything that listens or dials moves."""

from collections.abc import Sequence

import trio

from p2pd.decisions.eligibility import Refusal
from p2pd.decisions.interfaces import find_whereabouts
from p2pd.host.backoff import restart_delay
from p2pd.host.supervise import ServiceFailure
from p2pd.host.telemetry import log
from p2pd.ports import Swarm
from p2pd.ports_network import AddressFollower, NetworkWatch, Whereabouts
from p2pd.services.metrics import AgentMetrics
from p2pd.services.site import Board
from signing.errors import BadInput
from signing.reasons import Reason

_log = log("addresses")


class AddressKeeper:
    """Sets `board.here` and `board.network_problem`.

    The swarm moves first, then the `followers`, in order; then `board.here` tells everybody else, discovery among
    them, so that nothing is announced before it is there.
    """

    def __init__(
        self,
        watch: NetworkWatch,
        configured: Sequence[str],
        *,
        swarm: Swarm,
        followers: Sequence[AddressFollower],
        board: Board,
        metrics: AgentMetrics,
    ) -> None:
        """`configured`: names of interfaces, or numeric addresses."""
        self._watch = watch
        self._configured = tuple(configured)
        self._swarm = swarm
        self._followers = tuple(followers)
        self._board = board
        self._metrics = metrics
        self._reached: Whereabouts | None = None
        self._has_listened = False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow the host for ever. Ready once everything is in its first place, or waits for one.

        Raises BadInput when a port is taken at the very first place: somebody has to mend the configuration. Later the
        same is somebody else's passing trouble, and is tried again.
        """
        failures = 0
        while True:
            here = find_whereabouts(self._configured, self._watch.look())
            try:
                await self._move(here)
            except (BadInput, ServiceFailure) as problem:
                if isinstance(problem, BadInput) and not self._has_listened:
                    raise
                failures += 1
                tell = _log.warning if failures == 1 else _log.debug
                tell("cannot listen everywhere, will try again", addresses=here.hosts, why=str(problem))
            else:
                failures = 0
                self._has_listened = self._has_listened or bool(here.hosts)
            task_status.started()
            task_status = trio.TASK_STATUS_IGNORED
            with trio.move_on_after(restart_delay(failures) if failures else float("inf")):
                await self._watch.changed()

    async def _move(self, here: Whereabouts) -> None:
        """Everything that can move does, whatever becomes of the rest; then the first failure is raised."""
        if here == self._reached:
            return
        before, self._reached = self._reached, None
        self._say(here)
        failures: list[BadInput | ServiceFailure] = []
        if before is None or before.hosts != here.hosts:
            try:
                await self._swarm.listen_on(here.hosts)
            except (BadInput, ServiceFailure) as failure:
                failures.append(failure)
        for follower in self._followers:
            try:
                await follower.follow(here)
            except (BadInput, ServiceFailure) as failure:
                failures.append(failure)
        self._board.here.set(here)
        if failures:
            raise failures[0]
        self._reached = here

    def _say(self, here: Whereabouts) -> None:
        if here.hosts != self._board.here.value.hosts or not here.hosts:
            _log.info("addresses", listening=here.hosts, configured=self._configured)
        problem = None
        if not here.hosts:
            problem = Refusal(reason=Reason.NO_NETWORK_ADDRESS, detail=f"configured: {', '.join(self._configured)}")
            if self._board.network_problem.value is None:
                self._metrics.refused(problem.reason.value)
        self._board.network_problem.set(problem)
        self._metrics.addresses.set(len(here.hosts))
