# SPDX-License-Identifier: Apache-2.0
"""What mDNS records of one link add up to: sightings and departures. No socket, no thread, no clock.

An announcement is four records (PTR, SRV, TXT, A or AAAA) that may come together, apart, twice or never, from
anybody on the link. Whatever is not exactly ours is left out with a debug log. What is kept is bounded, in two classes
that cannot crowd each other out: a few incomplete announcements, each for a moment, and the complete ones, few for
each address (`mdns_crowd`).

zeroconf's own cache is no help here: it keeps a PTR for 1,125 s at least, whatever its TTL says, so its browser
would show a killed peer for nineteen minutes. This table goes by the SRV record, which lives as long as it says,
and tells when to ask for it again, at 75 % of its life and twice more (RFC 6762 5.2). One querier's question renews
the record for the whole link, so the random part in it keeps the others from asking. Who asks for one asks for all
that are soon due as well: so questions come in a few packets for each life, however many peers there are, and an idle
host sleeps in between.
"""

import math
import re
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address

from zeroconf import (  # type: ignore[attr-defined]  # exported to users, but left out of its __all__
    DNSAddress,
    DNSPointer,
    DNSRecord,
    DNSService,
    DNSText,
)

from p2pd.adapters.mdns_crowd import Crowd
from p2pd.adapters.mdns_text import read_text
from p2pd.host.telemetry import log
from p2pd.ports import Departure, Endpoint, Sighting

SERVICE_TYPE = "_p2pd._tcp.local."
TTL_SECONDS = 60  # of our own records, and the most that others are granted: how long a killed peer stays in sight
MAX_INSTANCES = 5_000  # complete ones: as many as a site has members
MAX_PER_ADDRESS = 8  # a host has one, and two for a moment when its name changes
MAX_INCOMPLETE = 256  # what is under way in pieces at one moment; an announcement mostly comes in one packet
INCOMPLETE_SECONDS = 10.0  # time for two questions
MAX_QUESTIONS = 200  # in one go; a flood of half announcements does not make us flood the link with questions

DOUBT_SECONDS = 3.0  # for one that is doubted to answer: three questions, as a packet may be lost
_ASK_DOUBTED_SECONDS = 1.0  # nobody may answer sooner (RFC 6762 6)
_ASK_AGAIN_SECONDS = 6.0  # 10 % of the life of a record of ours
_ASK_AHEAD_SECONDS = 5.0  # what will be due so soon is asked for in the same go
_INSTANCE = re.compile(r"([0-9a-f]{16})\." + re.escape(SERVICE_TYPE))

_log = log(__name__)


@dataclass(slots=True)
class _Entry:
    """One instance, as far as its records have come in: complete once it was told. Moments are monotonic seconds."""

    expires: float  # by its SRV record
    give_up: float  # if it is not complete by then
    ask_at: float
    renew_at: float  # when to ask, once it is complete
    server: str = ""
    port: int = 0
    address: str = ""
    text: tuple[int, frozenset[bytes]] | None = None
    told: Sighting | None = None


class AnnouncementTable:
    """The announcements of one link. One thread at a time may use it.

    `link` is the interface's network: an address that lies elsewhere cannot belong to a neighbour, and nobody may
    send us dialling there. `draw` returns numbers in [0, 1).
    """

    def __init__(self, link: IPv4Network | IPv6Network, *, draw: Callable[[], float]) -> None:
        self._link = link
        self._draw = draw
        self._entries: dict[str, _Entry] = {}
        self._incomplete: dict[str, None] = {}  # oldest first
        self._crowd = Crowd(most=MAX_INSTANCES, most_per_address=MAX_PER_ADDRESS)
        self._of_server: dict[str, set[str]] = {}
        self._soonest = math.inf

    @property
    def soonest(self) -> float:
        """Nothing is due before: neither a departure nor a question. A record that was renewed since makes it early."""
        return self._soonest

    def hear(self, records: Iterable[DNSRecord], now: float) -> list[Sighting | Departure]:
        """Take in records of one packet; return what is news. A record of no life left is a goodbye."""
        touched: dict[str, None] = {}  # a set that keeps order
        news: list[Sighting | Departure] = []
        # A host's address means nothing before the SRV record that names the host.
        for record in sorted(records, key=lambda record: isinstance(record, DNSAddress)):
            if isinstance(record, DNSAddress):
                touched |= dict.fromkeys(self._hear_address(record))
                continue
            name = record.alias if isinstance(record, DNSPointer) else record.name
            match = _INSTANCE.fullmatch(name.lower())
            if match is None or not isinstance(record, DNSPointer | DNSService | DNSText):
                continue
            if record.ttl == 0:
                # A TXT alone may be taken back because another replaced it.
                news += [] if isinstance(record, DNSText) else self._forget(match[1])
            elif self._hear_instance(match[1], record, now):
                touched[match[1]] = None
        for instance in touched:
            news += self._news(instance)
            if instance in self._entries:
                self._soonest = min(self._soonest, self._due_at(instance))
        return news

    def doubt(self, instance: str, now: float) -> None:
        """Let it depart soon, unless it answers a question before."""
        entry = self._entries.get(instance)
        if entry is not None and entry.told and entry.expires > now + DOUBT_SECONDS:
            entry.expires, entry.ask_at = now + DOUBT_SECONDS, now
            self._soonest = min(self._soonest, now)

    def expire(self, now: float) -> list[Departure]:
        """Forget whatever was not heard of again in its time."""
        late = [
            instance
            for instance, entry in self._entries.items()
            if entry.expires <= now or (instance in self._incomplete and entry.give_up <= now)
        ]
        return [departure for instance in late for departure in self._forget(instance)]

    def hears_only(self, own: Container[str]) -> bool:
        """Nobody but the instances in `own` is in sight."""
        return all(instance in own for instance, entry in self._entries.items() if entry.told)

    def questions(self, now: float) -> list[str]:
        """Full names of instances to ask for now; each is asked for again later as long as nothing comes."""
        due: list[str] = []
        if any(entry.ask_at <= now for entry in self._entries.values()):
            soon = now + _ASK_AHEAD_SECONDS
            due = sorted((name for name, entry in self._entries.items() if entry.ask_at <= soon), key=self._ask_at)
        for instance in due[:MAX_QUESTIONS]:
            entry = self._entries[instance]
            is_doubted = entry.told is not None and entry.expires <= now + DOUBT_SECONDS
            entry.ask_at = now + (_ASK_DOUBTED_SECONDS if is_doubted else _ASK_AGAIN_SECONDS * (1 + self._draw() / 2))
        self._soonest = min(map(self._due_at, self._entries), default=math.inf)
        return [full_name(instance) for instance in due[:MAX_QUESTIONS]]

    def _ask_at(self, instance: str) -> float:
        return self._entries[instance].ask_at

    def _due_at(self, instance: str) -> float:
        entry = self._entries[instance]
        over = min(entry.expires, entry.give_up) if instance in self._incomplete else entry.expires
        return min(entry.ask_at, over)

    def _hear_instance(self, instance: str, record: DNSPointer | DNSService | DNSText, now: float) -> bool:
        entry = self._entries.get(instance) or self._begin(instance, now)
        if isinstance(record, DNSService):
            life = min(record.ttl, TTL_SECONDS)
            entry.expires = now + life
            entry.renew_at = now + life * (0.75 + self._draw() / 10)
            if instance not in self._incomplete:
                entry.ask_at = entry.renew_at
            self._move(instance, entry, record.server.lower())
            entry.port = record.port
        elif isinstance(record, DNSText):
            try:
                entry.text = read_text(record.text)
            except ValueError as problem:
                _log.debug("announcement ignored", instance=instance, problem=str(problem))
                return False
        return True

    def _begin(self, instance: str, now: float) -> _Entry:
        if len(self._incomplete) >= MAX_INCOMPLETE:
            oldest = next(iter(self._incomplete))
            _log.debug("incomplete announcement dropped for a newer one", instance=oldest)
            self._forget(oldest)
        soon, give_up = now + self._draw(), now + INCOMPLETE_SECONDS
        entry = _Entry(expires=give_up, give_up=give_up, ask_at=soon, renew_at=soon)
        self._entries[instance] = entry
        self._incomplete[instance] = None
        return entry

    def _hear_address(self, record: DNSAddress) -> Iterable[str]:
        instances = self._of_server.get(record.name.lower(), ())
        if not instances or record.ttl == 0:
            return ()  # taken back: the instance itself says goodbye, or expires
        address = self._neighbour(record.address)
        if not address:
            _log.debug("address ignored", host=record.name, address=record.address.hex(), link=str(self._link))
            return ()
        for instance in instances:
            self._entries[instance].address = address
        return tuple(instances)

    def _neighbour(self, packed: bytes) -> str:
        """The address in text, or nothing if no neighbour on this link can have it."""
        try:
            address = ip_address(packed)
        except ValueError:
            return ""
        if address.version != self._link.version or address.is_multicast or address.is_unspecified:
            return ""
        # A host route (/32, as some clouds hand out) says nothing about who the neighbours are.
        if self._link.num_addresses > 1:
            inside = address in self._link
        else:
            inside = not address.is_loopback and not address.is_link_local
        return str(address) if inside else ""

    def _news(self, instance: str) -> list[Sighting | Departure]:
        entry = self._entries.get(instance)
        if entry is None or entry.text is None or not entry.port or not entry.address:
            return []
        if instance in self._incomplete:
            del self._incomplete[instance]
            entry.ask_at = entry.renew_at
        crowded_out = self._crowd.settle(instance, entry.address)
        mirror_port, tags = entry.text
        endpoint = Endpoint(host=entry.address, port=entry.port)
        sighting = Sighting(instance=instance, endpoint=endpoint, mirror_port=mirror_port, tags=tags)
        news: list[Sighting | Departure] = [] if sighting == entry.told else [sighting]
        entry.told = sighting
        for other in crowded_out:
            _log.debug("announcement dropped: too many", instance=other, address=entry.address)
            news += self._forget(other)
        return news

    def _forget(self, instance: str) -> list[Departure]:
        entry = self._entries.pop(instance, None)
        if entry is None:
            return []
        self._incomplete.pop(instance, None)
        self._crowd.leave(instance)
        self._move(instance, entry, "")
        return [Departure(instance=instance)] if entry.told else []

    def _move(self, instance: str, entry: _Entry, server: str) -> None:
        """Note which host the instance lives on; another host's address is not its own."""
        if server == entry.server:
            return
        if entry.server:
            others = self._of_server[entry.server]
            others.discard(instance)
            if not others:
                del self._of_server[entry.server]
        if server:
            self._of_server.setdefault(server, set()).add(instance)
        entry.server, entry.address = server, ""


def full_name(instance: str) -> str:
    """The DNS name of an instance."""
    return f"{instance}.{SERVICE_TYPE}"
