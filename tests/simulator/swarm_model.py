# SPDX-License-Identifier: Apache-2.0
"""Sites of agents on a clock of ticks: the shipping decisions and views, over a model of links and pieces.

    fleet = FleetModel({"hq": 500, "shop": 20}, seed=1)
    fleet.at(10.0, fleet.sites["hq"].kill_fetchers)
    fleet.run(until=120.0)

Real here: who is dialled (`neighbours`, `peer_health`), who counts as alive (`SwarmView`), who fetches (`decide_role`),
and which pieces (`next_run`). Modelled: an agent's LAN link and a site's WAN link pass so many pieces in a tick, fairly
shared; a connection to a dead agent breaks when keepalives go unanswered, and its announcement stays until it expires.
"""

import heapq
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count

from p2pd.decisions.ambassadors import rank
from p2pd.piece_set import PieceSet
from p2pd.ports import Endpoint
from p2pd.services.site import Peer
from signing.reasons import Reason
from signing.schedule import Offer
from tests.p2pd.services.views import make_trusted
from tests.simulator.modelled_agent import MOST_CONNECTIONS, ModelledAgent, ModelledRelease

TICK_SECONDS = 0.25
LAN_PIECES = 10  # a tick, of each agent in each direction
WAN_PIECES = 1.0  # a tick, of each site
ANNOUNCED_SECONDS = 60.0  # after a power cut, until mDNS forgets
HEARD_SECONDS = 1.0  # announcements come in batches
BROKEN_SECONDS = 6.0  # until keepalives tell that the other host is gone


class ModelledSite:
    """Agents that hear of each other, and one WAN link."""

    def __init__(self, name: str, size: int, release: ModelledRelease, chance: random.Random) -> None:
        self.name = name
        self.release = release
        self.agents: dict[str, ModelledAgent] = {}
        self.is_cut = False
        self.origin_pieces = 0  # that left the origin for this site
        self.reasons: Counter[Reason | None] = Counter()  # of its requests
        self.longest_silence = 0.0  # seconds without a new piece anywhere, while one was missing and could be had
        self._moved_at = 0.0
        self._chance = chance
        self._credit = 0.0
        self._served: Counter[str] = Counter()
        self._announced: dict[str, Peer] = {}
        self._is_news, self._heard_at = False, -HEARD_SECONDS
        self.devices = [f"{name}-{number}" for number in range(size)]
        trusted = make_trusted(members=self.devices)
        assert trusted.schedule is not None
        offer = Offer(
            product="app", version="1", release_counter=1, manifest_sha256=release.manifest_sha256, open_rings=1
        )
        self._trusted = replace(trusted, schedule=replace(trusted.schedule, offers=(offer,)))
        self._ranked = rank(release.info_hash, trusted.schedule.members)

    @property
    def size(self) -> int:
        """How many agents there may be."""
        return len(self.devices)

    @property
    def living(self) -> list[ModelledAgent]:
        """Those who are on."""
        return [agent for agent in self.agents.values() if agent.is_alive]

    @property
    def fetchers(self) -> list[ModelledAgent]:
        """Those who have requests under way."""
        return [agent for agent in self.living if agent.requests]

    def join(self, device: str, now: float) -> None:
        """An agent starts, with nothing."""
        self.agents[device] = ModelledAgent(device, self.release, self._trusted, self._ranked, now)
        self._announced[device] = _announcement(device, self.release.info_hash, now)
        self._is_news = True
        self._moved_at = now

    def kill(self, agent: ModelledAgent) -> None:
        """Power cut. What it had is gone, and nobody is told."""
        agent.is_alive = False
        agent.requests.clear()

    def notice_broken(self, agent: ModelledAgent, now: float) -> None:
        """Its neighbours' keepalives have gone unanswered."""
        for other in list(agent.connections.values()):
            if agent.device in other.connections:
                other.lose(agent.device, now)
        agent.connections.clear()

    def forget(self, device: str) -> None:
        """Its announcement has expired."""
        self._announced.pop(device, None)
        self._is_news = True

    def tick(self, now: float) -> None:
        """Everything that happens at a site in a quarter of a second."""
        living = self.living
        if self._is_news and now >= self._heard_at + HEARD_SECONDS:
            self._is_news, self._heard_at = False, now
            heard = dict(self._announced)
            for agent in living:
                agent.hear(heard, now)
        before = sum(len(agent.have) for agent in living)
        self._connect(living, now)
        self._share(living)
        self._fetch(now)
        for agent in living:
            if agent.finished_at is None:
                agent.observe(now)
                agent.ask(now)
                if agent.is_complete:
                    agent.finished_at = now
                    agent.requests.clear()
        if self.is_cut or sum(len(agent.have) for agent in living) > before or not self.unfinished:
            self._moved_at = now
        self.longest_silence = max(self.longest_silence, now - self._moved_at)

    @property
    def unfinished(self) -> list[ModelledAgent]:
        """Those on who lack something."""
        return [agent for agent in self.living if agent.finished_at is None]

    def _connect(self, living: list[ModelledAgent], now: float) -> None:
        for agent in living:
            for device in agent.dials(now):
                other = self.agents[device]
                if not other.is_alive or device in agent.connections:
                    continue
                if max(len(agent.connections), len(other.connections)) < MOST_CONNECTIONS:
                    latency = self._chance.uniform(0.0002, 0.005)
                    agent.meet(other, now, latency)
                    other.meet(agent, now, latency)

    def _share(self, living: list[ModelledAgent]) -> None:
        """Each piece goes one hop in a tick."""
        before = {agent.device: agent.have for agent in living}
        room = dict.fromkeys(before, LAN_PIECES)
        takers = [agent for agent in living if agent.finished_at is None]
        for agent in self._from_anywhere(takers):
            taken = 0
            for other in self._from_anywhere([other for other in agent.connections.values() if other.is_alive]):
                offered = before[other.device] - agent.have
                while offered and taken < LAN_PIECES and room[other.device]:
                    piece = _any_of(offered, int(self._chance.random() * self.release.piece_count))
                    agent.have |= PieceSet(1 << piece)
                    offered -= agent.have
                    agent.bytes_lan += 1
                    taken += 1
                    room[other.device] -= 1

    def _from_anywhere(self, agents: list[ModelledAgent]) -> list[ModelledAgent]:
        start = int(self._chance.random() * len(agents))
        return agents[start:] + agents[:start]

    def _fetch(self, now: float) -> None:
        """The WAN link's pieces, in turn to each request; the requests go on where they were after a cut."""
        fetchers = self.fetchers
        self._credit = 0.0 if self.is_cut or not fetchers else self._credit + WAN_PIECES
        while self._credit >= 1.0 and (fetchers := [agent for agent in fetchers if agent.requests]):
            agent = min(fetchers, key=lambda one: (self._served[one.device], one.device))
            self._served[agent.device] += 1
            request = agent.requests[0]
            piece = request.left.pop(0)
            self._credit -= 1.0
            self.origin_pieces += 1
            self.reasons[request.reason] += 1
            agent.bring(piece)
            if not request.left or request.left[0] in agent.have:
                agent.requests.pop(0)
                agent.ask_again()


class FleetModel:
    """Sites side by side, and a diary of what befalls them."""

    def __init__(self, sites: Mapping[str, int], *, seed: int, piece_count: int = 96) -> None:
        self.now = 0.0
        self.chance = random.Random(seed)  # noqa: S311 (reproducible, not secret)
        self.release = ModelledRelease(info_hash=f"{seed:064x}", manifest_sha256="a" * 64, piece_count=piece_count)
        self.sites = {name: ModelledSite(name, size, self.release, self.chance) for name, size in sites.items()}
        self._diary: list[tuple[float, int, Callable[[], object]]] = []
        self._entries = count()

    def at(self, moment: float, event: Callable[[], object]) -> None:
        """Let something happen."""
        heapq.heappush(self._diary, (moment, next(self._entries), event))

    def join(self, site: ModelledSite, device: str) -> None:
        """An agent starts now."""
        site.join(device, self.now)

    def kill(self, site: ModelledSite, agent: ModelledAgent) -> None:
        """Power cut, and what follows from it in time."""
        site.kill(agent)
        self.at(self.now + BROKEN_SECONDS, lambda: site.notice_broken(agent, self.now))
        self.at(self.now + ANNOUNCED_SECONDS, lambda: site.forget(agent.device))

    def run(self, *, until: float) -> None:
        """Until every living agent has everything and the diary is empty, or time is up."""
        while self.now < until and (self._diary or any(site.unfinished for site in self.sites.values())):
            while self._diary and self._diary[0][0] <= self.now:
                heapq.heappop(self._diary)[2]()
            for site in self.sites.values():
                if site.unfinished:
                    site.tick(self.now)
            self.now += TICK_SECONDS


def _announcement(device: str, info_hash: str, now: float) -> Peer:
    return Peer(
        device=device,
        endpoint=Endpoint(host="10.0.0.1", port=7_681),
        mirror=None,
        info_hashes=frozenset([info_hash]),
        has_other_state=False,
        tags=frozenset(),
        seen_at=now,
    )


def _any_of(pieces: PieceSet, start: int) -> int:
    return (pieces.from_on(start) or pieces).lowest
