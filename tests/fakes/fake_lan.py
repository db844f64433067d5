# SPDX-License-Identifier: Apache-2.0
"""`p2pd.ports.Lan` in memory: one link, whose wire can be slow or cut, and whose hosts can drop dead."""

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from math import inf

import trio

from p2pd.ports import Announcement, Departure, Endpoint, Sighting

DOUBT_SECONDS = 3.0  # before one that is doubted, and does not answer, departs
TTL_SECONDS = 60.0  # what a killed peer stays in sight, as with mDNS


@dataclass(eq=False)
class FakeLan:
    """One host's ear and voice. `seen` is what it believes about the others."""

    host: str
    network: "FakeLanNetwork"
    announced: Sighting | None = None
    seen: dict[str, Sighting] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Unbounded, as tests need not read what they do not ask about.
        self._send, self._receive = trio.open_memory_channel[Sighting | Departure](inf)
        self._said: Announcement | None = None

    @property
    def sightings(self) -> trio.MemoryReceiveChannel[Sighting | Departure]:
        return self._receive

    async def listen_on(self, hosts: Sequence[str]) -> None:
        """At the first of them: it has one plug. Without any it is unplugged."""
        await trio.lowlevel.checkpoint()
        host = next(iter(hosts), "")
        if host == self.host:
            return
        if self.announced is not None:
            self.network.say(self, Departure(instance=self.announced.instance))
            self.announced = None
        self.network.unplug(self)
        for instance in list(self.seen):
            self.hear(Departure(instance=instance))
        self.host = host
        if host:
            self.network.plug(self)
        if self._said is not None:
            await self.announce(self._said)

    async def announce(self, announcement: Announcement, *, renew: bool = False) -> None:
        await trio.lowlevel.checkpoint()
        self._said, before = announcement, self.announced
        if not self.host:
            return
        self.announced = Sighting(
            instance=secrets.token_hex(8) if renew or before is None else before.instance,
            endpoint=Endpoint(host=self.host, port=announcement.torrent_port),
            mirror_port=announcement.mirror_port,
            tags=announcement.tags,
        )
        self.network.say(self, self.announced)
        if before is not None and before.instance != self.announced.instance:
            self.network.say(self, Departure(instance=before.instance))

    def doubt(self, instance: str) -> None:
        """Whoever does not answer departs from this one's sight."""
        self.network.ask(self, instance)

    def hear(self, item: Sighting | Departure) -> None:
        """Believe it; pass on what is news."""
        before = self.seen.get(item.instance)
        if isinstance(item, Sighting):
            self.seen[item.instance] = item
            is_news = item != before
        else:
            self.seen.pop(item.instance, None)
            is_news = before is not None
        if is_news:
            self._send.send_nowait(item)


class FakeLanNetwork:
    """The wire. Made by `open_fake_network`."""

    def __init__(self, nursery: trio.Nursery, delay_seconds: float, ttl_seconds: float) -> None:
        self._nursery = nursery
        self._delay_seconds = delay_seconds
        self._ttl_seconds = ttl_seconds
        self._plugged: list[FakeLan] = []
        self._is_cut = False
        self._cuts = 0
        self._under_way, self._arriving = trio.open_memory_channel[tuple[float, FakeLan, Sighting | Departure]](inf)

    @asynccontextmanager
    async def open_lan(self, host: str) -> AsyncIterator[FakeLan]:
        """A host on this wire, at any address; goodbye on the way out, unless it was killed before."""
        lan = FakeLan(host, self)
        self.plug(lan)
        try:
            yield lan
        finally:
            if lan.announced is not None:
                self.say(lan, Departure(instance=lan.announced.instance))
            self.unplug(lan)

    def plug(self, lan: FakeLan) -> None:
        """It hears and is heard from now on."""
        self._plugged.append(lan)
        self._everybody_tells()

    def unplug(self, lan: FakeLan) -> None:
        """It hears nothing more and is not heard."""
        if lan in self._plugged:
            self._plugged.remove(lan)

    def kill(self, lan: FakeLan) -> None:
        """No goodbye, and no word from now on; the others see it depart when its records run out."""
        self._plugged.remove(lan)
        if lan.announced is not None:
            self._nursery.start_soon(self._run_out, Departure(instance=lan.announced.instance))

    def cut(self) -> None:
        """Nobody hears anybody; everybody departs from everybody's sight when the records run out."""
        self._is_cut = True
        self._cuts += 1
        self._nursery.start_soon(self._all_run_out, self._cuts)

    def mend(self) -> None:
        """Everybody hears everybody again."""
        self._is_cut = False
        self._everybody_tells()

    def say(self, speaker: FakeLan, item: Sighting | Departure) -> None:
        """Carry `item` to all others, unless the speaker is dead or the wire cut."""
        if self._is_cut or speaker not in self._plugged:
            return
        if self._delay_seconds:
            self._under_way.send_nowait((trio.current_time() + self._delay_seconds, speaker, item))
        else:
            self._carry(speaker, item)

    def ask(self, asker: FakeLan, instance: str) -> None:
        """Somebody doubts that it is there."""
        self._nursery.start_soon(self._wait_for_answer, asker, instance)

    async def _wait_for_answer(self, asker: FakeLan, instance: str) -> None:
        await trio.sleep(DOUBT_SECONDS)
        announced = {lan.announced.instance for lan in self._plugged if lan.announced is not None}
        if self._is_cut or instance not in announced:
            asker.hear(Departure(instance=instance))

    def _everybody_tells(self) -> None:
        for speaker in self._plugged:
            if speaker.announced is not None:
                self.say(speaker, speaker.announced)

    def _carry(self, speaker: FakeLan, item: Sighting | Departure) -> None:
        for lan in self._plugged:
            if lan is not speaker:
                lan.hear(item)

    async def carry_on(self) -> None:
        """What is slow still arrives in the order in which it was said."""
        async for due, speaker, item in self._arriving:
            await trio.sleep_until(due)
            self._carry(speaker, item)

    async def _run_out(self, departure: Departure) -> None:
        await trio.sleep(self._ttl_seconds)
        for lan in self._plugged:
            lan.hear(departure)

    async def _all_run_out(self, cut: int) -> None:
        await trio.sleep(self._ttl_seconds)
        if self._is_cut and self._cuts == cut:
            for lan in self._plugged:
                for instance in list(lan.seen):
                    lan.hear(Departure(instance=instance))


@asynccontextmanager
async def open_fake_network(
    *, delay_seconds: float = 0.0, ttl_seconds: float = TTL_SECONDS
) -> AsyncIterator[FakeLanNetwork]:
    """A wire that carries things after `delay_seconds`; what is under way when the block ends is lost."""
    async with trio.open_nursery() as nursery:
        network = FakeLanNetwork(nursery, delay_seconds, ttl_seconds)
        nursery.start_soon(network.carry_on)
        yield network
        nursery.cancel_scope.cancel()
