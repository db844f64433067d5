# SPDX-License-Identifier: Apache-2.0
"""Who is who among the announcements in sight: peers by device, and strangers, of whom only so many are remembered.

Members are kept apart from strangers, so that no flood of invented announcements pushes a member out. One sighting
costs one look at its tags; all are looked at again only when there is another book to read them with. No I/O, no clock.
"""

from collections.abc import Mapping

from p2pd.decisions.discovery_tags import Recognised, TagBook
from p2pd.ports import Endpoint, Sighting
from p2pd.services.site import Peer

MAX_STRANGERS = 1_000  # may turn out to be members by the next book; looking at them all again takes about 10 ms
MAX_UNREAD = 5_000  # before the first book: everybody is a stranger then, and a site has that many members
MAX_PER_DEVICE = 8  # a device has one announcement for each of its links; whoever repeats its tags elsewhere has more


class Neighbourhood:
    """All sightings that have not departed, as far as they are bounded."""

    def __init__(self) -> None:
        self._book: TagBook | None = None
        self._strangers: dict[str, tuple[Sighting, float]] = {}  # by instance, newest last
        self._members: dict[str, tuple[Sighting, Peer]] = {}  # by instance
        self._instances: dict[str, dict[str, None]] = {}  # by device, newest last

    def peers(self) -> Mapping[str, Peer]:
        """The newest announcement of each recognised device."""
        return {device: self._members[next(reversed(here))][1] for device, here in self._instances.items()}

    def see(self, sighting: Sighting, now: float) -> bool:
        """Take in a new or changed announcement; whether `peers` may have changed."""
        was_member = self.forget(sighting.instance)
        recognised = self._book.recognise(sighting) if self._book is not None else None
        if recognised is None:
            self._strangers[sighting.instance] = (sighting, now)
            self._forget_strangers()
            return was_member
        here = self._instances.setdefault(recognised.device, {})
        here[sighting.instance] = None
        self._members[sighting.instance] = (sighting, _peer(sighting, recognised, now))
        if len(here) > MAX_PER_DEVICE:
            self.forget(next(iter(here)))
        return True

    def forget(self, instance: str) -> bool:
        """It departed; whether `peers` may have changed."""
        self._strangers.pop(instance, None)
        member = self._members.pop(instance, None)
        if member is None:
            return False
        device = member[1].device
        del self._instances[device][instance]
        if not self._instances[device]:
            del self._instances[device]
        return True

    def read_with(self, book: TagBook) -> None:
        """Look at everybody again, in the order in which they were seen."""
        everybody = [*self._strangers.values(), *((seen, peer.seen_at) for seen, peer in self._members.values())]
        self._strangers, self._members, self._instances = {}, {}, {}
        self._book = book
        for sighting, seen_at in sorted(everybody, key=lambda seen: seen[1]):
            self.see(sighting, seen_at)

    def _forget_strangers(self) -> None:
        most = MAX_STRANGERS if self._book is not None else MAX_UNREAD
        while len(self._strangers) > most:
            del self._strangers[next(iter(self._strangers))]


def _peer(sighting: Sighting, recognised: Recognised, seen_at: float) -> Peer:
    host = sighting.endpoint.host
    return Peer(
        device=recognised.device,
        endpoint=sighting.endpoint,
        mirror=Endpoint(host=host, port=sighting.mirror_port) if sighting.mirror_port else None,
        info_hashes=recognised.info_hashes,
        has_other_state=recognised.has_other_state,
        tags=sighting.tags,
        seen_at=seen_at,
    )
