# SPDX-License-Identifier: Apache-2.0
"""Who is who among the announcements in sight: peers by device, and strangers, of whom only so many are remembered.

Members are kept apart from strangers, so that no flood of invented announcements pushes a member out. One sighting
costs one look at its tags; all are looked at again only when there is another book to read them with. No I/O, no clock.

A device with several addresses is one peer that can be dialled in several places. The place where it showed up last
goes first, since the others may be where it was before; of those where it showed up at once, IPv4 goes first, for both
ends to choose alike. An announcement that is said anew, or under a new name, moves no place ahead.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import NamedTuple

from p2pd.decisions.discovery_tags import Recognised, TagBook
from p2pd.ports import Endpoint, Sighting
from p2pd.services.site import Peer

MAX_STRANGERS = 1_000  # may turn out to be members by the next book; looking at them all again takes about 10 ms
MAX_UNREAD = 5_000  # before the first book: everybody is a stranger then, and a site has that many members
MAX_PER_DEVICE = 8  # a device has one announcement for each of its links; whoever repeats its tags elsewhere has more
AT_ONCE_SECONDS = 5.0  # an endpoint that starts announces itself on all of its links within a second


class _Member(NamedTuple):
    sighting: Sighting
    peer: Peer
    since: float  # when it showed up at this endpoint, under whatever name


class Neighbourhood:
    """All sightings that have not departed, as far as they are bounded."""

    def __init__(self) -> None:
        self._book: TagBook | None = None
        self._strangers: dict[str, tuple[Sighting, float]] = {}  # by instance, newest last
        self._members: dict[str, _Member] = {}  # by instance
        self._instances: dict[str, dict[str, None]] = {}  # by device, newest last

    def peers(self) -> Mapping[str, Peer]:
        """The newest announcement of each recognised device, with all places where it can be dialled."""
        return {device: _united([self._members[name] for name in here]) for device, here in self._instances.items()}

    def instances(self, device: str) -> Collection[str]:
        """The names of its announcements."""
        return tuple(self._instances.get(device, ()))

    def see(self, sighting: Sighting, now: float) -> bool:
        """Take in a new or changed announcement; whether `peers` may have changed."""
        recognised = self._book.recognise(sighting) if self._book is not None else None
        if recognised is None:
            was_member = self.forget(sighting.instance)
            self._strangers[sighting.instance] = (sighting, now)
            self._forget_strangers()
            return was_member
        since = self._there_since(recognised.device, sighting.endpoint, now)
        self._remember(_Member(sighting, _peer(sighting, recognised, now), since))
        return True

    def forget(self, instance: str) -> bool:
        """It departed; whether `peers` may have changed."""
        self._strangers.pop(instance, None)
        member = self._members.pop(instance, None)
        if member is None:
            return False
        device = member.peer.device
        del self._instances[device][instance]
        if not self._instances[device]:
            del self._instances[device]
        return True

    def read_with(self, book: TagBook) -> None:
        """Look at everybody again, in the order in which they were seen."""
        members = self._members.values()
        everybody = [*self._strangers.values(), *((member.sighting, member.peer.seen_at) for member in members)]
        since = {member.sighting.instance: member.since for member in members}
        self._strangers, self._members, self._instances = {}, {}, {}
        self._book = book
        for sighting, seen_at in sorted(everybody, key=lambda seen: seen[1]):
            self.see(sighting, seen_at)
            if sighting.instance in self._members and sighting.instance in since:
                member = self._members[sighting.instance]
                self._members[sighting.instance] = member._replace(since=since[sighting.instance])

    def _remember(self, member: _Member) -> None:
        self.forget(member.sighting.instance)
        here = self._instances.setdefault(member.peer.device, {})
        here[member.sighting.instance] = None
        self._members[member.sighting.instance] = member
        if len(here) > MAX_PER_DEVICE:
            self.forget(next(iter(here)))

    def _there_since(self, device: str, endpoint: Endpoint, now: float) -> float:
        known = (self._members[name] for name in self._instances.get(device, ()))
        return min((member.since for member in known if member.peer.endpoint == endpoint), default=now)

    def _forget_strangers(self) -> None:
        most = MAX_STRANGERS if self._book is not None else MAX_UNREAD
        while len(self._strangers) > most:
            del self._strangers[next(iter(self._strangers))]


def _united(members: Sequence[_Member]) -> Peer:
    """One peer of all announcements of a device, the newest last."""
    newest = members[-1].peer
    if len(members) == 1:
        return newest
    latest = max(member.since for member in members)
    order = sorted(members, key=lambda member: _order(member, latest))
    best = order[0].peer
    endpoints = tuple(dict.fromkeys(member.peer.endpoint for member in order))
    return replace(newest, endpoint=best.endpoint, endpoints=endpoints, mirror=best.mirror)


def _order(member: _Member, latest: float) -> tuple[float, int, int]:
    host = ip_address(member.peer.endpoint.host)
    ago = latest - member.since
    return (ago if ago > AT_ONCE_SECONDS else 0.0), host.version, int(host)


def _peer(sighting: Sighting, recognised: Recognised, seen_at: float) -> Peer:
    host = sighting.endpoint.host
    return Peer(
        device=recognised.device,
        endpoint=sighting.endpoint,
        mirror=Endpoint(host=host, port=sighting.mirror_port) if sighting.mirror_port else None,
        info_hashes=recognised.info_hashes,
        whole=recognised.whole,
        has_other_state=recognised.has_other_state,
        tags=sighting.tags,
        seen_at=seen_at,
        is_aside=recognised.is_aside,
    )
