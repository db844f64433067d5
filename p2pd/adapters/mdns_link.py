# SPDX-License-Identifier: Apache-2.0
"""mDNS on one interface address: a Zeroconf of its own, which neither hears nor speaks on any other interface.

Zeroconf runs an asyncio loop on a thread of its own. All methods here block, briefly and bounded, and are called from
worker threads; `on_news` is called on zeroconf's thread. What has to happen in time is a timer of that loop, set to
when the table of announcements has something due: nothing wakes up to look whether it has.

No probing (RFC 6762 8.1): it takes 1.2 s and serves to find a clash of names, and ours are 64 random bits.
"""

import asyncio
import random
import secrets
import socket
import sys
from collections.abc import Callable, Container, Coroutine
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, TypeVar

import psutil
import zeroconf
from zeroconf import (  # type: ignore[attr-defined]  # exported to users, but left out of its __all__
    DNSOutgoing,
    DNSQuestion,
    RecordUpdate,
    RecordUpdateListener,
    ServiceBrowser,
    ServiceInfo,
    Zeroconf,
    current_time_millis,
)

from p2pd.adapters.mdns_table import SERVICE_TYPE, TTL_SECONDS, AnnouncementTable, full_name
from p2pd.adapters.mdns_text import write_text
from p2pd.host.supervise import ServiceFailure
from p2pd.host.telemetry import log
from p2pd.ports import Announcement, Departure, Sighting
from signing.errors import BadInput

_QUERY, _PTR, _ANY, _INTERNET = 0, 12, 255, 1  # RFC 1035 numbers, which zeroconf has under private names
_QUESTIONS_PER_PACKET = 30  # of about 40 bytes each, so that none is truncated
_IP_MULTICAST_ALL, _IPV6_MULTICAST_ALL = 49, 29  # <linux/in.h>, <linux/in6.h>; not in Python's socket module
_CALL_SECONDS = 5.0  # for work on zeroconf's loop that takes about a millisecond
_ALONE_SECONDS = 20.0
_LEAST_SECONDS = 1.0  # between two looks at the table, which goes through all announcements

_log = log(__name__)
_T = TypeVar("_T")


class LanUnavailable(ServiceFailure):
    """mDNS does not work on an interface now: its address is not there yet, or it has no multicast."""


class MdnsLink:
    """Our voice and ear on one link."""

    def __init__(self, address: str, *, own: Container[str], on_news: Callable[[Sighting | Departure], None]) -> None:
        """Open the sockets. `own` holds our instance names, on whatever link. Raises BadInput, LanUnavailable."""
        device, network = _find_interface(address)
        self.address = address
        self._own = own
        self._on_news = on_news
        self._table = AnnouncementTable(network, draw=random.random)
        self._info: ServiceInfo | None = None
        self._broadcasts: list[asyncio.Future[Any]] = []
        self._next_call = _monotonic() + _ALONE_SECONDS
        self._looked_at = _monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self._is_closing = False
        try:
            self._zeroconf = Zeroconf(interfaces=[address])
        except (OSError, RuntimeError, zeroconf.Error) as error:
            raise LanUnavailable(f"mDNS on {address}: {error}") from error
        # zeroconf logs what it could not join, and carries on without.
        loop = self._zeroconf.loop
        if loop is None or not self._zeroconf.engine.senders:
            self._zeroconf.close()
            raise LanUnavailable(f"mDNS on {address}: cannot join the multicast group on {device}")
        self._loop = loop
        _stay_on(device, [reader.sock for reader in self._zeroconf.engine.readers])
        self._zeroconf.add_listener(_Ear(self._hear), None)
        # The browser asks for our service type whenever RFC 6762 says so; what is answered comes by the ear.
        self._browser = ServiceBrowser(self._zeroconf, SERVICE_TYPE, [_disregard])
        loop.call_soon_threadsafe(self._set_timer)

    def publish(self, instance: str, announcement: Announcement) -> None:
        """Announce under `instance`, in place of whatever was announced; a name other than before departs.

        Returns once the first of three broadcasts is out; the others follow within half a second.
        Raises LanUnavailable.
        """
        self._on_loop(self._publish(instance, announcement))

    def doubt(self, instance: str) -> None:
        """Ask whether it is still there; returns at once."""
        with suppress(RuntimeError):  # the loop has just ended
            self._loop.call_soon_threadsafe(self._doubt, instance)

    def close(self) -> None:
        """Say goodbye and close the sockets, which takes about 0.3 s."""
        try:
            self._on_loop(self._rest())
            self._browser.cancel()
            self._zeroconf.close()
        except (LanUnavailable, zeroconf.Error, TimeoutError) as error:
            _log.warning("mDNS did not close in time; peers notice by expiry", address=self.address, error=repr(error))

    def _on_loop(self, work: Coroutine[Any, Any, _T]) -> _T:
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result(_CALL_SECONDS)
        except (zeroconf.Error, TimeoutError) as error:
            raise LanUnavailable(f"mDNS on {self.address}: {error!r}") from error

    # From here on, everything runs on zeroconf's thread.

    async def _publish(self, instance: str, announcement: Announcement) -> None:
        before, name = self._info, full_name(instance)
        is_update = before is not None and before.name == name
        info = ServiceInfo(
            SERVICE_TYPE,
            name,
            port=announcement.torrent_port,
            properties=write_text(announcement.mirror_port, announcement.tags),
            server=before.server if before is not None and is_update else f"{secrets.token_hex(8)}.local.",
            host_ttl=TTL_SECONDS,
            other_ttl=TTL_SECONDS,
            parsed_addresses=[self.address],
        )
        # Repetitions of what is no longer so would make others go back and forth.
        await self._hush()
        if is_update:
            self._broadcasts = [asyncio.ensure_future(await self._zeroconf.async_update_service(info))]
        else:
            new = await self._zeroconf.async_register_service(info, cooperating_responders=True)
            self._broadcasts = [asyncio.ensure_future(new)]
            if before is not None:
                goodbye = await self._zeroconf.async_unregister_service(before)
                self._broadcasts.append(asyncio.ensure_future(goodbye))
        self._info = info

    async def _rest(self) -> None:
        """Do nothing more in time."""
        await self._hush()
        self._is_closing = True
        if self._timer is not None:
            self._timer.cancel()

    async def _hush(self) -> None:
        """Stop repeating the last announcement."""
        for broadcast in self._broadcasts:
            broadcast.cancel()
        self._broadcasts = []

    def _doubt(self, instance: str) -> None:
        self._table.doubt(instance, _monotonic())
        self._set_timer()

    def _hear(self, records: list[RecordUpdate], now: float) -> None:
        # zeroconf also passes on what runs out in its cache; only a record that comes with no life is a goodbye.
        fresh = [update.new for update in records if update.new.ttl == 0 or not update.new.is_expired(now)]
        for news in self._table.hear(fresh, now / 1000):
            self._on_news(news)
        self._set_timer()

    def _set_timer(self) -> None:
        """Look at the table when something is due there; a timer that is early enough stays."""
        due = max(min(self._table.soonest, self._next_call), self._looked_at + _LEAST_SECONDS)
        if self._is_closing or (self._timer is not None and self._timer.when() <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._look)

    def _look(self) -> None:
        """Let the silent depart, and ask for those about to."""
        self._timer, self._looked_at = None, _monotonic()
        try:
            self._look_at(self._looked_at)
        finally:
            self._set_timer()

    def _look_at(self, now: float) -> None:
        for departure in self._table.expire(now):
            self._on_news(departure)
        names = self._table.questions(now)
        for start in range(0, len(names), _QUESTIONS_PER_PACKET):
            self._ask(names[start : start + _QUESTIONS_PER_PACKET], _ANY)
        if now >= self._next_call:
            self._next_call = now + _ALONE_SECONDS * (1 + random.random() / 4)  # noqa: S311 (only spreads load)
            if self._info is not None and self._table.hears_only(self._own):
                # A switch port may start to forward half a minute after the link is up: what we said and asked when
                # we started went nowhere. While nobody is in sight, saying it again disturbs nobody.
                self._ask([SERVICE_TYPE], _PTR)
                self._zeroconf.async_send(self._zeroconf.generate_service_broadcast(self._info, None))

    def _ask(self, names: list[str], kind: int) -> None:
        query = DNSOutgoing(_QUERY)
        for name in names:
            query.add_question(DNSQuestion(name, kind, _INTERNET))
        self._zeroconf.async_send(query)


class _Ear(RecordUpdateListener):
    """Gets every record that comes in, in order, on zeroconf's thread."""

    def __init__(self, hear: Callable[[list[RecordUpdate], float], None]) -> None:
        self._hear = hear

    def async_update_records(self, zc: Zeroconf, now: float, records: list[RecordUpdate]) -> None:
        self._hear(records, now)


def _disregard(**_: object) -> None:
    """The browser insists on a handler."""


def _monotonic() -> float:
    return current_time_millis() / 1000  # the clock of all of zeroconf's records, and of its loop


def _find_interface(address: str) -> tuple[str, IPv4Network | IPv6Network]:
    """The device that has `address`, and the network there. Raises BadInput, LanUnavailable."""
    where, remedy = "interfaces", "name the numeric addresses of this host's LAN interfaces"
    try:
        wanted = ip_address(address)
    except ValueError as error:
        raise BadInput(where, f"{address!r} is not a numeric address", remedy) from error
    if wanted.is_unspecified or wanted.is_multicast:
        raise BadInput(where, f"{address} does not belong to one interface", remedy)
    if wanted.version == 6 and wanted.is_link_local:
        raise BadInput(where, f"{address} is link-local, which peers cannot dial without a scope", remedy)
    for device, entries in psutil.net_if_addrs().items():
        for entry in entries:
            if entry.family not in (socket.AF_INET, socket.AF_INET6) or not entry.netmask:
                continue
            found = ip_address(entry.address.partition("%")[0])
            prefix = int(ip_address(entry.netmask)).bit_count()
            network = ip_network((found, prefix), strict=False)
            # All of 127.0.0.0/8 answers on the loopback device, which lists only 127.0.0.1.
            if found == wanted or (found.is_loopback and wanted in network):
                return device, network
    raise LanUnavailable(f"mDNS on {address}: no interface of this host has that address now")


def _stay_on(device: str, sockets: list[socket.socket]) -> None:
    """Hear nothing from other interfaces: mDNS sockets listen on the wildcard address, as the port is shared.

    Nor the other version of IP on this one: whoever has both has a link for each, and says on each what belongs there.
    """
    if sys.platform != "linux":
        return  # elsewhere a socket hears only the groups that it joined itself
    for each in sockets:
        each.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        if each.family == socket.AF_INET6:
            each.setsockopt(socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, 0)
        try:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        except PermissionError:
            _log.warning("mDNS hears other interfaces too: before Linux 5.7 only root may bind to one", device=device)
