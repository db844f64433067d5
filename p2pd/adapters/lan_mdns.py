# SPDX-License-Identifier: Apache-2.0
"""The LAN by multicast DNS: `p2pd.ports.Lan` over one Zeroconf per interface address.

What goes out names nobody: random instance and host names, ports, the interface's own address, and tags that only
members of the fleet can read (`p2pd.decisions.discovery_tags`). Each link has names of its own, so that a host on two
links is two announcements there, not one that contradicts itself.

Works on every address of the loopback network too (127.0.0.2, 127.0.0.3 …), without root and without a multicast
route: that is how several agents live on one machine.
"""

import secrets
import threading
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial

import trio

from p2pd.adapters.mdns_link import LanUnavailable, MdnsLink
from p2pd.host.telemetry import log
from p2pd.ports import Announcement, Departure, Sighting
from signing.errors import BadInput

__all__ = ["LanUnavailable", "MdnsLan", "open_lan"]

_TICK_SECONDS = 1.0
_CLOSE_SECONDS = 2.0  # all goodbyes take 0.3 s; a peer that misses one sees us expire within a minute
_NEWS_AHEAD = 64  # news that may wait for the reader; what comes on top waits below, one per instance
_OWN_NAMES = 64  # names that we had; packets with the oldest of them are long gone from every cache

_log = log(__name__)


@asynccontextmanager
async def open_lan(interfaces: Sequence[str]) -> "AsyncIterator[MdnsLan]":
    """Listen on the interfaces with these numeric addresses; announce nothing until told. Goodbye on the way out.

    Raises BadInput for what can never be an interface, LanUnavailable (a ServiceFailure) for what is not one now.
    """
    if not interfaces:
        raise BadInput("interfaces", "is empty", "name at least one numeric address of this host")
    news = _News()
    own: deque[str] = deque(maxlen=_OWN_NAMES)
    links: list[MdnsLink] = []
    try:
        for address in dict.fromkeys(interfaces):
            tell = partial(news.put, address)
            links.append(await trio.to_thread.run_sync(partial(MdnsLink, address, own=own, on_news=tell)))
        lan = MdnsLan(links, own, news)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lan.deliver)
            nursery.start_soon(lan.keep_time)
            yield lan
            nursery.cancel_scope.cancel()
    finally:
        with trio.move_on_after(_CLOSE_SECONDS, shield=True) as closing:
            async with trio.open_nursery() as nursery:
                for link in links:
                    nursery.start_soon(partial(trio.to_thread.run_sync, link.close, abandon_on_cancel=True))
        if closing.cancelled_caught:
            _log.warning("mDNS did not close in time; peers notice by expiry", seconds=_CLOSE_SECONDS)


class MdnsLan:
    """Implements `p2pd.ports.Lan`. Made by `open_lan`."""

    def __init__(self, links: Sequence[MdnsLink], own: "deque[str]", news: "_News") -> None:
        self._links = links
        self._own = own
        self._news = news
        self._announcing = trio.Lock()
        self._instances: dict[MdnsLink, str] = {}
        self._heard: dict[str, dict[str, Sighting]] = {}
        self._send, self._receive = trio.open_memory_channel[Sighting | Departure](_NEWS_AHEAD)

    @property
    def sightings(self) -> trio.MemoryReceiveChannel[Sighting | Departure]:
        return self._receive

    async def announce(self, announcement: Announcement, *, renew: bool = False) -> None:
        """See `p2pd.ports.Lan`. Raises LanUnavailable."""
        async with self._announcing:
            for link in self._links:
                instance = self._instances.get(link)
                if renew or instance is None:
                    instance = secrets.token_hex(8)
                    self._own.append(instance)  # first of all: we hear ourselves before `publish` returns
                await trio.to_thread.run_sync(link.publish, instance, announcement)
                self._instances[link] = instance

    async def keep_time(self) -> None:
        while True:
            await trio.sleep(_TICK_SECONDS)
            for link in self._links:
                link.tick()

    async def deliver(self) -> None:
        with self._send:
            while True:
                await self._news.wait()
                for address, item in self._news.take():
                    merged = None if item.instance in self._own else self._merge(address, item)
                    if merged is not None:
                        await self._send.send(merged)

    def _merge(self, address: str, item: Sighting | Departure) -> Sighting | Departure | None:
        """Two of our interfaces may be on one wire: an instance departs when no link sees it any more."""
        by_link = self._heard.setdefault(item.instance, {})
        before = next(iter(by_link.values()), None)
        if isinstance(item, Sighting):
            by_link[address] = item
        else:
            by_link.pop(address, None)
        after = next(iter(by_link.values()), None)
        if after is None:
            del self._heard[item.instance]
            return item if before is not None else None
        return after if after != before else None


class _News:
    """From zeroconf's threads into trio, without ever growing past one item per link and instance.

    Newer news of an instance replace older ones that nobody took yet: a slow reader misses intermediate states, never
    the last one, and nothing of what came and went between two looks. The tables that feed it bound the number of
    instances at any one time, and so what waits here.
    """

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._lock = threading.Lock()
        self._waiting: dict[tuple[str, str], Sighting | Departure] = {}
        self._taken: set[tuple[str, str]] = set()  # what the reader believes to be there
        self._arrived = trio.Event()

    def put(self, address: str, item: Sighting | Departure) -> None:
        """Called on a link's own thread."""
        key = address, item.instance
        with self._lock:
            if isinstance(item, Departure) and key not in self._taken:
                self._waiting.pop(key, None)
                return
            self._waiting[key] = item
        # A thread that did not close in time may outlive the daemon's loop by a moment.
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._wake, idempotent=True)

    async def wait(self) -> None:
        await self._arrived.wait()
        self._arrived = trio.Event()

    def take(self) -> list[tuple[str, Sighting | Departure]]:
        with self._lock:
            taken, self._waiting = self._waiting, {}
            self._taken |= taken.keys()
            self._taken -= {key for key, item in taken.items() if isinstance(item, Departure)}
        return [(address, item) for (address, _), item in taken.items()]

    def _wake(self) -> None:
        self._arrived.set()
