# SPDX-License-Identifier: Apache-2.0
"""A thousand agents at twenty-one sites, on a clock of ticks, with deaths, late joiners and WAN links that are cut."""

from functools import partial

import pytest

from signing.reasons import Reason
from tests.simulator.modelled_agent import MOST_CONNECTIONS
from tests.simulator.swarm_model import FleetModel, ModelledSite

PATIENCE_SECONDS = 300.0


def all_join(fleet: FleetModel, *, late: float) -> None:
    """Most agents are there when the release comes; a fraction comes later."""
    for site in fleet.sites.values():
        for device in site.devices:
            comes_late = fleet.chance.random() < late
            fleet.at(fleet.chance.choice((12.0, 31.0) if comes_late else (0.0, 0.5)), partial(fleet.join, site, device))


def kill_fetchers(fleet: FleetModel, site: ModelledSite, count: int) -> None:
    """The busiest go first."""
    for agent in sorted(site.fetchers, key=lambda one: -len(one.have))[:count]:
        fleet.kill(site, agent)


def kill_some(fleet: FleetModel, site: ModelledSite, count: int) -> None:
    """Whoever it may be, but the last one lives."""
    for agent in fleet.chance.sample(site.living, min(count, len(site.living) - 1)):
        fleet.kill(site, agent)


def cut(site: ModelledSite, *, is_cut: bool) -> None:
    """The WAN link of a site."""
    site.is_cut = is_cut


def copies(site: ModelledSite) -> float:
    return site.origin_pieces / site.release.piece_count


def assert_all_is_well(site: ModelledSite, *, most_copies: float, most_silence: float) -> None:
    assert site.unfinished == [], f"{site.name}: somebody starves"
    assert copies(site) <= most_copies, f"{site.name}: {site.reasons}"
    assert site.longest_silence <= most_silence, f"{site.name}: nothing moved"
    assert max(agent.highest_degree for agent in site.agents.values()) <= MOST_CONNECTIONS


def test_a_thousand_agents_all_finish_whatever_befalls_them() -> None:
    """Ambassadors die first, others at random, late joiners come, and WAN links are cut for a while."""
    fleet = FleetModel({"hq": 500, **{f"shop-{number}": 25 for number in range(20)}}, seed=3, piece_count=64)
    all_join(fleet, late=0.1)
    for number, site in enumerate(fleet.sites.values()):
        fleet.at(8.0, partial(kill_fetchers, fleet, site, 1 + number % 10))
        fleet.at(fleet.chance.uniform(4.0, 20.0), partial(kill_some, fleet, site, site.size // 12))
        if number % 3 == 0:
            fleet.at(10.0, partial(cut, site, is_cut=True))
            fleet.at(25.0, partial(cut, site, is_cut=False))
    fleet.run(until=PATIENCE_SECONDS)
    for site in fleet.sites.values():
        assert len(site.living) < site.size, "the deaths took place"
        assert_all_is_well(site, most_copies=1.5, most_silence=20.0)
    assert sum(map(copies, fleet.sites.values())) / len(fleet.sites) <= 1.25


def test_an_undisturbed_site_takes_one_copy_and_late_joiners_take_none() -> None:
    fleet = FleetModel({"hq": 60}, seed=5)
    site = fleet.sites["hq"]
    for device in site.devices[:50]:
        fleet.at(0.0, partial(fleet.join, site, device))
    fleet.run(until=PATIENCE_SECONDS)
    assert_all_is_well(site, most_copies=1.02, most_silence=3.0)
    before = site.origin_pieces
    cut(site, is_cut=True)
    for device in site.devices[50:]:
        fleet.at(fleet.now + 1.0, partial(fleet.join, site, device))
    fleet.run(until=fleet.now + 30.0)
    assert site.unfinished == []
    assert site.origin_pieces == before


@pytest.mark.parametrize("seed", range(6))
def test_the_death_of_every_ambassador_costs_no_more_than_what_was_under_way(seed: int) -> None:
    fleet = FleetModel({"hq": 30}, seed=seed)
    site = fleet.sites["hq"]
    all_join(fleet, late=0.0)
    for moment in (6.0, 14.0, 22.0):
        fleet.at(moment, partial(kill_fetchers, fleet, site, 30))
    fleet.run(until=PATIENCE_SECONDS)
    assert_all_is_well(site, most_copies=1.6, most_silence=25.0)


@pytest.mark.parametrize("seed", range(4))
def test_the_last_one_alive_gets_it_all(seed: int) -> None:
    fleet = FleetModel({"hq": 12}, seed=seed, piece_count=48)
    site = fleet.sites["hq"]
    all_join(fleet, late=0.0)
    for moment in range(3, 14):
        fleet.at(float(moment), partial(kill_some, fleet, site, 1))
    fleet.run(until=PATIENCE_SECONDS)
    assert len(site.living) == 1
    assert site.unfinished == []
    assert site.reasons.keys() <= {None, Reason.AMBASSADORS_UNSEEN, Reason.TOOK_OVER_STALLED}
