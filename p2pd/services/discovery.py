# SPDX-License-Identifier: Apache-2.0
"""Turns anonymous sightings into peers of this site, and announces this endpoint in the same disguise."""

import hashlib
import math

import trio

from p2pd.decisions.discovery_tags import EPOCH_SECONDS, TagBook, epoch_of, tags_to_announce
from p2pd.host.backoff import restart_delay
from p2pd.host.latest import first_of
from p2pd.host.supervise import ServiceFailure
from p2pd.host.telemetry import log
from p2pd.host.wall_clock import WallClock
from p2pd.ports import Announcement, Departure, Lan
from p2pd.ports_control import Trusted
from p2pd.services.metrics import AgentMetrics
from p2pd.services.neighbourhood import Neighbourhood
from p2pd.services.site import Board, Identity

_log = log("discovery")


class Discovery:
    """Keeps `board.peers` true and this endpoint announced."""

    def __init__(
        self,
        lan: Lan,
        board: Board,
        identity: Identity,
        clock: WallClock,
        metrics: AgentMetrics,
        *,
        torrent_port: int,
        mirror_port: int,
    ) -> None:
        self._lan = lan
        self._board = board
        self._identity = identity
        self._clock = clock
        self._metrics = metrics
        self._torrent_port = torrent_port
        self._mirror_port = mirror_port
        self._neighbourhood = Neighbourhood()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen and announce, for ever. Nothing is announced before there is something verified to tell."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._move)
            nursery.start_soon(self._listen)
            nursery.start_soon(self._keep_book)
            nursery.start_soon(self._announce)
            self._board.listening_since.set(trio.current_time())
            self._board.doubt = self._doubt
            task_status.started()

    def _doubt(self, device: str) -> None:
        for instance in self._neighbourhood.instances(device):
            self._lan.doubt(instance)

    async def _move(self) -> None:
        """Be on the LAN wherever this endpoint is."""
        here, failures = self._board.here.watch(), 0
        while True:
            try:
                await self._lan.listen_on(self._board.here.value.hosts)
                failures = 0
            except ServiceFailure as problem:
                failures += 1
                tell = _log.warning if failures == 1 else _log.debug
                tell("not on the LAN everywhere, will try again", why=str(problem))
            await first_of(here.changed, seconds=restart_delay(failures) if failures else math.inf)

    async def _listen(self) -> None:
        async for news in self._lan.sightings:
            if isinstance(news, Departure):
                is_news = self._neighbourhood.forget(news.instance)
            else:
                is_news = self._neighbourhood.see(news, trio.current_time())
            if is_news:
                self._show()

    async def _keep_book(self) -> None:
        """Write a new book when what tags mean has changed; then everybody is looked at again."""
        trusted = self._board.trusted.watch()
        wrote_for: tuple[Trusted, int] | None = None
        while True:
            known = self._board.trusted.value
            if known is not None and (known, epoch_of(self._clock.unix())) != wrote_for:
                wrote_for = known, epoch_of(self._clock.unix())
                self._neighbourhood.read_with(self._write_book(known))
                self._show()
            await first_of(trusted.changed, seconds=self._seconds_to_next_epoch())

    def _show(self) -> None:
        self._board.peers.set(self._neighbourhood.peers())
        self._metrics.peers.set(len(self._board.peers.value))

    async def _announce(self) -> None:
        trusted, carried = self._board.trusted.watch(), self._board.carried.watch()
        passage, complete = self._board.passage.watch(), self._board.complete.watch()
        announced_epoch: int | None = None
        while True:
            known = self._board.trusted.value
            if known is not None:
                epoch = epoch_of(self._clock.unix())
                tags = tags_to_announce(
                    _segment_digest(known),
                    self._identity.device,
                    epoch,
                    timestamp_version=known.timestamp_version,
                    info_hashes=sorted(self._board.carried.value),
                    whole=self._board.complete.value,
                    is_aside=not self._board.passage.value.serves_the_site,
                )
                announcement = Announcement(torrent_port=self._torrent_port, mirror_port=self._mirror_port, tags=tags)
                await self._lan.announce(announcement, renew=announced_epoch not in (None, epoch))
                announced_epoch = epoch
            pause = self._seconds_to_next_epoch() if known is not None else math.inf
            await first_of(trusted.changed, carried.changed, passage.changed, complete.changed, seconds=pause)

    def _write_book(self, known: Trusted) -> TagBook:
        members = known.schedule.members if known.schedule is not None else ()
        carried = (verified.manifest.torrents_for(self._identity.segment) for verified in known.manifests)
        return TagBook.write(
            _segment_digest(known),
            members=(member.device for member in members if member.device != self._identity.device),
            info_hashes=[torrent.info_hash for found in carried for _, torrent in found],
            timestamp_version=known.timestamp_version,
            now=self._clock.unix(),
        )

    def _seconds_to_next_epoch(self) -> float:
        return EPOCH_SECONDS - self._clock.unix() % EPOCH_SECONDS + 1.0


def _segment_digest(known: Trusted) -> bytes:
    return hashlib.sha256(known.segment_ca_pem).digest()
