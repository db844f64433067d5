# SPDX-License-Identifier: Apache-2.0
"""Keeps one torrent connected with the right few of this site, and remembers who does not deserve it for now."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import trio

from p2pd.decisions.ambassadors import rank
from p2pd.decisions.neighbours import Bounds, Plan, SwarmView, plan
from p2pd.decisions.peer_health import Delivery, Health, drips, is_banned, is_forgiven, struck
from p2pd.decisions.silence import CHECK_SECONDS, Ears, Offer
from p2pd.host.latest import first_of
from p2pd.host.telemetry import log
from p2pd.ports import Endpoint, Neighbour, Transfer, peer_id_of
from p2pd.ports_control import Trusted
from p2pd.services.metrics import AgentMetrics
from p2pd.services.site import Board, Identity, Link
from signing.reasons import Reason

WATCH_SECONDS = 16.0  # two stalls: a peer that has not sent what it offered by then does not count for a while
LEAST_PAUSE = 0.01  # what is due a rounding error from now is not waited for in circles
LATENCY_WEIGHT = 1 / 8  # of a new measurement (RFC 6298)
_OF_THE_LINK = frozenset({Reason.PEER_LOST, Reason.PEER_UNREACHABLE})
_UNTRUSTWORTHY = frozenset({Reason.PEER_SLOW, Reason.PEER_CORRUPT})

_log = log("introductions")


@dataclass(frozen=True, kw_only=True)
class _Watch:
    """What was there when a watch for drips began."""

    began: float
    bytes_lan: int
    seen: Mapping[str, Neighbour]


class Introductions:
    """One torrent's connections. Moments are trio's."""

    def __init__(
        self,
        info_hash: str,
        transfer: Transfer,
        *,
        board: Board,
        identity: Identity,
        metrics: AgentMetrics,
        bounds: Bounds | None = None,
    ) -> None:
        self._info_hash = info_hash
        self._transfer = transfer
        self._board = board
        self._me = identity.device
        self._metrics = metrics
        self._bounds = bounds or Bounds()
        self._ranked_for: Trusted | None = None
        self._ranked: tuple[str, ...] = ()
        self._by_peer_id: Mapping[bytes, str] = {}
        self._neighbours: Mapping[str, Neighbour] = {}
        self._connected_since: dict[str, float] = {}
        self._wanted_since: dict[str, float] = {}
        self._dialled_at: dict[str, float] = {}
        self._dialled: dict[str, Endpoint] = {}
        self._place = board.here.value
        self._health: dict[str, Health] = {}
        self._corruptions: Mapping[bytes, int] = {}
        self._ignored: frozenset[bytes] = frozenset()
        self._watch: _Watch | None = None
        self._ears, self._mute = Ears(), frozenset[str]()

    async def run(self) -> None:
        """Dial, and judge, until cancelled."""
        peers, trusted, here = self._board.peers.watch(), self._board.trusted.watch(), self._board.here.watch()
        try:
            while True:
                now = trio.current_time()
                self._notice(now)
                self._pardon()
                pauses = self._judge_deliveries(now), self._hear_out(now), self._introduce(now)
                seconds = max(min(pauses), LEAST_PAUSE)
                await first_of(
                    peers.changed, trusted.changed, here.changed, self._transfer.neighbours_changed, seconds=seconds
                )
        finally:
            links = dict(self._board.links.value)
            links.pop(self._info_hash, None)
            self._board.links.set(links)

    def _notice(self, now: float) -> None:
        """Who has come, who has gone, and what is forgiven."""
        self._rank()
        found = {self._by_peer_id.get(neighbour.peer_id): neighbour for neighbour in self._transfer.neighbours()}
        before, self._neighbours = self._neighbours, {d: n for d, n in found.items() if d is not None and d != self._me}
        for device in self._neighbours.keys() - before.keys():
            self._connected_since[device] = now
            self._dialled_at.pop(device, None)
        self._accuse(now)  # first: who was cut off for wrong data is lost, too
        for device in before.keys() - self._neighbours.keys():
            self._connected_since.pop(device, None)
            self._strike(device, Reason.PEER_LOST, now)
        self._measure()
        for device, health in list(self._health.items()):
            if is_forgiven(health, connected_since=self._connected_since.get(device), now=now):
                del self._health[device]

    def _pardon(self) -> None:
        """Whoever was lost or not reached from where this endpoint was before is not to blame."""
        if self._place != self._board.here.value:
            self._place = self._board.here.value
            self._health = {d: health for d, health in self._health.items() if health.reason not in _OF_THE_LINK}

    def _rank(self) -> None:
        trusted = self._board.trusted.value
        if trusted is self._ranked_for:
            return
        self._ranked_for = trusted
        members = trusted.schedule.members if trusted is not None and trusted.schedule is not None else ()
        self._ranked = rank(self._info_hash, members)
        self._by_peer_id = {peer_id_of(device): device for device in self._ranked}

    def _measure(self) -> None:
        for device, neighbour in self._neighbours.items():
            if neighbour.latency is not None:
                before = self._board.latency.get(device, neighbour.latency)
                self._board.latency[device] = before + LATENCY_WEIGHT * (neighbour.latency - before)

    def _accuse(self, now: float) -> None:
        before, self._corruptions = self._corruptions, dict(self._transfer.corruptions())
        for peer_id, count in self._corruptions.items():
            if count > before.get(peer_id, 0) and peer_id in self._by_peer_id:
                self._strike(self._by_peer_id[peer_id], Reason.PEER_CORRUPT, now)

    def _judge_deliveries(self, now: float) -> float:
        """Find those who offer and do not send; the seconds until that can be said again."""
        progress = self._transfer.progress()
        if progress.is_complete or not self._neighbours:
            self._watch = None
            return math.inf
        if self._watch is not None and now >= self._watch.began + WATCH_SECONDS:
            deliveries = {
                device: Delivery(
                    offers_missing=bool(before.have - progress.have),
                    bytes_in=self._neighbours[device].bytes_in - before.bytes_in,
                )
                for device, before in self._watch.seen.items()
                if device in self._neighbours
            }
            gained = progress.bytes_lan - self._watch.bytes_lan
            for device in drips(deliveries, seconds=now - self._watch.began, gained=gained):
                self._strike(device, Reason.PEER_SLOW, now)
            self._watch = None
        if self._watch is None:
            self._watch = _Watch(began=now, bytes_lan=progress.bytes_lan, seen=dict(self._neighbours))
        return self._watch.began + WATCH_SECONDS - now

    def _hear_out(self, now: float) -> float:
        """Find those who hang: what they offer does not count as long as they do. The seconds until the next look."""
        progress = self._transfer.progress()
        offers = {
            device: Offer(have=peer.have, missing=peer.have - progress.have, bytes_in=peer.bytes_in)
            for device, peer in self._neighbours.items()
        }
        before, self._mute = self._mute, self._ears.mute(offers, now=now)
        for device in self._mute - before:
            self._metrics.refused(Reason.PEER_SLOW.value)
            _log.info("peer is mute", device=device)
        return CHECK_SECONDS if offers and not progress.is_complete else math.inf

    def _introduce(self, now: float) -> float:
        """Dial who is due; the seconds until time alone makes a difference."""
        for device in [d for d in self._dialled_at if self._dialled[d] not in self._endpoints(d)]:
            del self._dialled_at[device]  # it has moved, or left
        view = self._view()
        decided = plan(view, now=now, bounds=self._bounds)
        while decided.unanswered:
            for device in decided.unanswered:
                del self._dialled_at[device]
                self._strike(device, Reason.PEER_UNREACHABLE, now)
            decided = plan(view, now=now, bounds=self._bounds)
        for device in decided.dial:
            endpoint = self._next_endpoint(device)
            self._dialled_at[device], self._dialled[device] = now, endpoint
            self._transfer.connect(endpoint)
        self._wanted_since = {device: self._wanted_since.get(device, now) for device in decided.wanted}
        self._dialled_at = {d: at for d, at in self._dialled_at.items() if d in decided.wanted}
        self._ignore(now)
        self._show(view, decided, now)
        return math.inf if decided.look_again is None else decided.look_again - now

    def _endpoints(self, device: str) -> Sequence[Endpoint]:
        peer = self._board.peers.value.get(device)
        return peer.endpoints if peer is not None else ()

    def _next_endpoint(self, device: str) -> Endpoint:
        """Another one after each failure, if there are several."""
        endpoints = self._endpoints(device)
        failures = self._health[device].strikes if device in self._health else 0
        return endpoints[failures % len(endpoints)]

    def _view(self) -> SwarmView:
        peers = self._board.peers.value
        return SwarmView(
            me=self._me,
            info_hash=self._info_hash,
            ranked=self._ranked,
            announced=frozenset(d for d, peer in peers.items() if self._info_hash in peer.info_hashes),
            connected=self._neighbours.keys(),
            latency=self._board.latency,
            health=self._health,
            wanted_since=self._wanted_since,
            dialled_at=self._dialled_at,
        )

    def _strike(self, device: str, reason: Reason, now: float) -> None:
        before = self._health.get(device)
        after = self._health[device] = struck(before, reason, now=now)
        if after != before:
            self._metrics.refused(reason.value)
            _log.info("peer left alone", device=device, reason=reason, seconds=round(after.banned_until - now, 1))

    def _ignore(self, now: float) -> None:
        """Whoever is mute, banned for what it sent, or no member of the site: an id is a claim, and costs nothing."""
        strangers = (peer.peer_id for peer in self._transfer.neighbours() if peer.peer_id not in self._by_peer_id)
        banned = (
            peer_id_of(device)
            for device, health in self._health.items()
            if health.reason in _UNTRUSTWORTHY and is_banned(health, now=now)
        )
        ignored = frozenset((*strangers, *banned, *map(peer_id_of, self._mute)))
        if ignored != self._ignored:
            self._ignored = ignored
            self._transfer.ignore(sorted(ignored))

    def _show(self, view: SwarmView, decided: Plan, now: float) -> None:
        links: dict[str, Link] = {}
        for device in (view.announced | view.connected) & frozenset(self._ranked) - {self._me}:
            link, health = Link(is_connected=False), self._health.get(device)
            if device in self._neighbours:
                neighbour = self._neighbours[device]
                reason = Reason.PEER_SLOW if device in self._mute else None
                sent, received = neighbour.bytes_out, neighbour.bytes_in
                link = Link(is_connected=True, reason=reason, bytes_in=received, bytes_out=sent)
            elif device not in decided.wanted:
                link = Link(is_connected=False, reason=Reason.PEER_NOT_NEEDED)
            if health is not None and is_banned(health, now=now):
                link = replace(link, reason=health.reason, until=health.banned_until)
            links[device] = replace(link, latency=self._board.latency.get(device))
        self._board.links.set({**self._board.links.value, self._info_hash: links})
