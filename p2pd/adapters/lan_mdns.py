# SPDX-License-Identifier: Apache-2.0
"""The LAN by multicast DNS: `p2pd.ports.Lan` over one Zeroconf per interface address.

What goes out names nobody: random instance and host names, ports, the interface's own address, and tags that only
members of the fleet can read (`p2pd.decisions.discovery_tags`). Each link has names of its own, so that a host on two
links is two announcements there, not one that contradicts itself.

Links come and go with the addresses of the host, each for itself: what is heard and said on the others goes on. No
socket outlives its address (python-zeroconf #54, #806, #296 and avahi #189 tell of some that did).

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

_CLOSE_SECONDS = 2.0  # all goodbyes take 0.3 s; a peer that misses one sees us expire within a minute
_NEWS_AHEAD = 64  # news that may wait for the reader; what comes on top waits below, one per instance
_OWN_NAMES = 64  # names that we had; packets with the oldest of them are long gone from every cache

_log = log(__name__)


@asynccontextmanager
async def open_lan(hosts: Sequence[str] = ()) -> "AsyncIterator[MdnsLan]":
    """Listen on these numeric addresses, for a start; announce nothing until told. Goodbye on the way out.

    Raises BadInput for what can never be an interface, LanUnavailable (a ServiceFailure) for what is not one now.
    """
    lan = MdnsLan()
    try:
        await lan.listen_on(hosts)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lan.deliver)
            yield lan
            nursery.cancel_scope.cancel()
    finally:
        with trio.move_on_after(_CLOSE_SECONDS, shield=True):
            await lan.listen_on(())


class MdnsLan:
    """Implements `p2pd.ports.Lan`. Made by `open_lan`."""

    def __init__(self) -> None:
        self._links: dict[str, MdnsLink] = {}  # by address
        self._own: deque[str] = deque(maxlen=_OWN_NAMES)
        self._news = _News()
        self._moving = trio.Lock()
        self._said: Announcement | None = None
        self._instances: dict[MdnsLink, str] = {}
        self._heard: dict[str, dict[str, Sighting]] = {}
        self._send, self._receive = trio.open_memory_channel[Sighting | Departure](_NEWS_AHEAD)

    @property
    def sightings(self) -> trio.MemoryReceiveChannel[Sighting | Departure]:
        return self._receive

    async def listen_on(self, hosts: Sequence[str]) -> None:
        """See `p2pd.ports.Lan`. Raises BadInput, LanUnavailable."""
        async with self._moving:
            gone = [self._links.pop(host) for host in list(self._links) if host not in hosts]
            for link in gone:
                self._news.end(link.address)
                self._instances.pop(link, None)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_close, gone)
                failures = [failure for host in dict.fromkeys(hosts) if (failure := await self._open(host))]
        if failures:
            raise failures[0]

    async def announce(self, announcement: Announcement, *, renew: bool = False) -> None:
        """See `p2pd.ports.Lan`. Raises LanUnavailable."""
        async with self._moving:
            self._said = announcement
            for link in self._links.values():
                await self._publish(link, announcement, renew=renew)

    def doubt(self, instance: str) -> None:
        """See `p2pd.ports.Lan`."""
        for link in self._links.values():
            link.doubt(instance)

    async def _open(self, host: str) -> BadInput | LanUnavailable | None:
        if host in self._links:
            return None
        try:
            tell = partial(self._news.put, self._news.begin(host))
            link = await trio.to_thread.run_sync(partial(MdnsLink, host, own=self._own, on_news=tell))
            self._links[host] = link
            if self._said is not None:
                await self._publish(link, self._said, renew=False)
        except (BadInput, LanUnavailable) as failure:
            return failure
        return None

    async def _publish(self, link: MdnsLink, announcement: Announcement, *, renew: bool) -> None:
        instance = self._instances.get(link)
        if renew or instance is None:
            instance = secrets.token_hex(8)
            self._own.append(instance)  # first of all: we hear ourselves before `publish` returns
        await trio.to_thread.run_sync(link.publish, instance, announcement)
        self._instances[link] = instance

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


async def _close(links: Sequence[MdnsLink]) -> None:
    """Say goodbye where that is still possible."""
    with trio.move_on_after(_CLOSE_SECONDS, shield=True) as closing:
        async with trio.open_nursery() as nursery:
            for link in links:
                nursery.start_soon(partial(trio.to_thread.run_sync, link.close, abandon_on_cancel=True))
    if closing.cancelled_caught:
        _log.warning("mDNS did not close in time; peers notice by expiry", seconds=_CLOSE_SECONDS)


class _News:
    """From zeroconf's threads into trio, without ever growing past one item per link and instance.

    Newer news of an instance replace older ones that nobody took yet: a slow reader misses intermediate states, never
    the last one, and nothing of what came and went between two looks. The tables that feed it bound the number of
    instances at any one time, and so what waits here. With a link departs whatever it had told of.
    """

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._lock = threading.Lock()
        self._links: dict[str, _Life] = {}
        self._waiting: dict[tuple[str, str], Sighting | Departure] = {}
        self._taken: set[tuple[str, str]] = set()  # what the reader believes to be there
        self._arrived = trio.Event()

    def begin(self, address: str) -> "_Life":
        """A link opens there; what is put under an earlier life of it counts no more."""
        with self._lock:
            life = self._links[address] = _Life(address)
        return life

    def end(self, address: str) -> None:
        """The link closes: nobody will say what becomes of those who were heard on it."""
        with self._lock:
            del self._links[address]
            self._waiting = {key: item for key, item in self._waiting.items() if key[0] != address}
            departed = [key for key in self._taken if key[0] == address]
            self._waiting |= {key: Departure(instance=key[1]) for key in departed}
        self._wake()

    def put(self, life: "_Life", item: Sighting | Departure) -> None:
        """Called on a link's own thread."""
        key = life.address, item.instance
        with self._lock:
            if self._links.get(life.address) is not life:
                return
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


class _Life:
    """One link from its opening to its end; another at the same address is another life."""

    def __init__(self, address: str) -> None:
        self.address = address
