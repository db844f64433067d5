# SPDX-License-Identifier: Apache-2.0
"""Percentages are of the link that is known, by whoever has seen most of it, and never of one that nobody has seen."""

from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from p2pd.host.wall_clock import WallClock
from p2pd.ports import Endpoint
from p2pd.ports_network import Whereabouts
from p2pd.services.limiting import Limiter
from p2pd.services.site import Board
from p2pd.services.wan_pacing import Pacer
from signing.budgets import OPEN_GATES, Budgets, Rates
from signing.schedule import SiteRates
from tests.fakes.fake_host_looks import FakeHostLooks
from tests.fakes.fake_swarm import open_fake_swarm_network
from tests.p2pd.services.views import make_trusted

FIFTH = Budgets(rates=Rates(wan_percent=20.0))


class NotedPacer(Pacer):
    """Tells what it was allowed."""

    budget: float | None = None

    def allow(self, budget: float | None, *, yields: bool) -> None:
        self.budget = budget
        super().allow(budget, yields=yields)


async def test_a_percentage_is_of_what_anybody_has_seen_of_the_link(autojump_clock: MockClock) -> None:
    pacer, board = NotedPacer(unix=trio.current_time), Board()
    async with open_fake_swarm_network() as network, trio.open_nursery() as nursery:
        limiter = Limiter(
            pacer=pacer,
            swarm=network.join(Endpoint(host="10.0.0.1", port=1), "desk-1"),
            looks=FakeHostLooks(),
            board=board,
            clock=WallClock(),
            origin_host="origin.test",
            own=FIFTH,
            own_gates=OPEN_GATES,
            swarm_limits=(None, None),
            is_urgent=lambda: False,
        )
        await nursery.start(limiter.run)
        await trio.sleep(1)
        assert pacer.budget is None, "nothing was measured"
        board.wan_link.set(1_000_000.0)  # the site, in a transfer that goes on
        await trio.sleep(1)
        assert pacer.budget == pytest.approx(200_000.0)
        trusted = make_trusted()
        assert trusted.schedule is not None
        rates = SiteRates(wan_bytes_per_s=5_000_000, lan_bytes_per_s=10_000_000, rtt_seconds=None)
        board.trusted.set(replace(trusted, schedule=replace(trusted.schedule, rates=rates)))
        await trio.sleep(1)
        assert pacer.budget == pytest.approx(1_000_000.0)
        board.trusted.set(trusted)
        board.here.set(Whereabouts(hosts=("10.9.9.9",)))
        await trio.sleep(1)
        assert pacer.budget is None, "another network is another link"
        nursery.cancel_scope.cancel()
