# SPDX-License-Identifier: Apache-2.0
"""`p2pd.ports_small.SmallPeers` without a network: the shelves of a site, some of whose owners are dead, or lie."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import trio

from p2pd.adapters.small_peers import SmallDesk
from p2pd.host.latest import first_of
from p2pd.ports import Endpoint
from p2pd.ports_small import PeerBusy, PeerFailure, SmallPeers, SmallShelf
from signing.manifest import Content

ROUND_TRIP_SECONDS = 0.001

Lie = Callable[[str, bytes], bytes]


class FakeSmallNetwork:
    """Who serves what, by address. `sent` counts payload bytes by host that sent them, `questions` by host asked."""

    def __init__(self) -> None:
        self.sent: Counter[str] = Counter()
        self.questions: Counter[str] = Counter()
        self.lies: dict[str, Lie] = {}
        self.mute: set[str] = set()  # they accept a question and never answer it
        self._desks: dict[str, tuple[SmallDesk, trio.Event]] = {}

    def join(self, host: str, shelf: SmallShelf) -> None:
        """From now on `host` answers."""
        self._desks[host] = SmallDesk(shelf), trio.Event()

    def leave(self, host: str) -> None:
        """From now on it does not, and questions that it has are lost."""
        _, gone = self._desks.pop(host)
        gone.set()

    def seen_by(self, asker: str) -> SmallPeers:
        """The network as one endpoint uses it."""
        return _Asker(self, asker)

    async def ask(
        self, peer: Endpoint, wanted: Sequence[Content], *, wait_seconds: float, asker: str = ""
    ) -> Mapping[str, bytes]:
        """See `SmallPeers`."""
        await trio.sleep(ROUND_TRIP_SECONDS)
        desk, gone = self._desk(peer.host)
        self.questions[peer.host] += 1
        found: dict[str, bytes] = {}
        busy: list[PeerBusy] = []

        async def answer() -> None:
            if peer.host in self.mute:
                await trio.sleep_forever()
            digests = [content.sha256 for content in wanted]
            try:
                await desk.wait(digests, wait_seconds, asker=asker)
            except PeerBusy as problem:
                busy.append(problem)
                return
            async with aclosing(desk.batches(digests)) as batches:
                async for batch in batches:
                    found.update(batch)

        await first_of(answer, gone.wait, seconds=wait_seconds + 10)
        self._desk(peer.host)
        if busy:
            raise busy[0]
        if peer.host in self.mute:
            raise PeerFailure(f"{peer.host}: no answer")
        sizes = {content.sha256: content.size for content in wanted}
        lie = self.lies.get(peer.host, _truth)
        told = {sha256: lie(sha256, data) for sha256, data in found.items()}
        if any(len(data) != sizes[sha256] for sha256, data in told.items()):
            raise PeerFailure(f"{peer.host}: another size than was asked for", is_hostile=True)
        self.sent[peer.host] += sum(map(len, told.values()))
        return told

    def _desk(self, host: str) -> tuple[SmallDesk, trio.Event]:
        if host not in self._desks:
            raise PeerFailure(f"{host}: nobody answers")
        return self._desks[host]


@dataclass(frozen=True)
class _Asker:
    network: FakeSmallNetwork
    name: str

    async def ask(self, peer: Endpoint, wanted: Sequence[Content], *, wait_seconds: float) -> Mapping[str, bytes]:
        return await self.network.ask(peer, wanted, wait_seconds=wait_seconds, asker=self.name)


def _truth(_: str, data: bytes) -> bytes:
    return data
