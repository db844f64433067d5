# SPDX-License-Identifier: Apache-2.0
"""One endpoint's share in carrying small payloads, with peers and an origin that do as they are told."""

import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count, pairwise
from pathlib import Path
from typing import Any, Literal, TypeVar

import pytest
import trio
from prometheus_client import CollectorRegistry
from trio.testing import MockClock

from p2pd.adapters.small_shelf import SmallShelfFiles
from p2pd.decisions.ambassadors import Timing, rank
from p2pd.decisions.network_gates import Passage
from p2pd.decisions.small_sources import ASK_AGAIN_SECONDS, STRIPES, rank_key, stripe_of
from p2pd.ports import Endpoint
from p2pd.ports_small import PeerBusy, PeerFailure
from p2pd.services.metrics import AgentMetrics
from p2pd.services.site import Board, Peer
from p2pd.services.small_payloads import BUSY_SECONDS, SmallCarriage, SmallPayloads, SmallRelease
from p2pd.services.small_site import FAILED_SECONDS, HOSTILE_SECONDS, SmallSite
from signing.budgets import GateAction
from signing.codec import encode
from signing.manifest import Content, Manifest, Severity, Transport
from signing.reasons import Reason
from signing.schedule import Member, Offer
from signing.verified import open_manifest
from tests.p2pd.services.views import SELF, make_trusted
from tests.simulator.virtual_time import in_place

TIMING = Timing(settle=1.5, stall=8.0)
OTHERS = ("desk-2", "desk-3")
Behaviour = Callable[[str, float], Awaitable[Mapping[str, bytes]]]
T = TypeVar("T")


async def has_nothing(_device: str, wait_seconds: float) -> Mapping[str, bytes]:
    await trio.sleep(max(wait_seconds, 0.001))
    return {}


class Peers:
    """The peers, which all behave alike; who was asked when."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, str]] = []
        self.behave: Behaviour = has_nothing

    async def ask(self, peer: Endpoint, wanted: Sequence[Content], *, wait_seconds: float) -> Mapping[str, bytes]:
        self.asked.append((trio.current_time(), peer.host))
        return await self.behave(peer.host, wait_seconds)


class OriginOf:
    """An origin that has what it is given; when it was asked for what."""

    source: Literal["origin", "web"] = "origin"

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[float, str]] = []

    async def ranges(self, sha256: str, start: int, length: int) -> AsyncGenerator[bytes, None]:
        self.asked.append((trio.current_time(), sha256))
        yield self.files[sha256][start : start + length]


class Scene:
    """`fetcher` on a site of three, of whom the others are there or not."""

    def __init__(self, directory: Path, run_sync: Any = in_place) -> None:
        self.board, self.peers, self.origin = Board(), Peers(), OriginOf()
        self.shelf = SmallShelfFiles(directory / "payloads", "default", run_sync)
        self.fetcher = SmallPayloads(
            peers=self.peers,
            shelf=self.shelf,
            origin=self.origin,
            board=self.board,
            identity=SELF,
            metrics=AgentMetrics(CollectorRegistry()),
            timing=TIMING,
        )
        self._offers: list[Offer] = []
        self.board.listening_since.set(trio.current_time() - 100)

    def see(self, *devices: str) -> None:
        """Those are there."""
        now = trio.current_time()
        self.board.peers.set({device: peer_of(device, seen_at=now) for device in devices})

    def release(self, data: bytes, severity: Severity = Severity.MODERATE) -> SmallRelease:
        """A release that everybody may have, published."""
        content = Content(sha256=hashlib.sha256(data).hexdigest(), size=len(data))
        manifest = Manifest(
            product=f"p{content.sha256[:8]}",
            version="1",
            release_counter=1,
            payload=Content(sha256="0" * 64, size=20),
            transports=(Transport(codec="zstd", content=content, torrents=(), segments=("default",)),),
            severity=severity,
        )
        encoded = encode(manifest)
        verified = open_manifest(encoded, sha256=hashlib.sha256(encoded).hexdigest(), where="test")
        self.origin.files[content.sha256] = data
        offer = Offer(
            product=manifest.product,
            version="1",
            release_counter=1,
            manifest_sha256=verified.sha256,
            open_rings=1,
        )
        self._offers.append(offer)
        trusted = make_trusted()
        assert trusted.schedule
        self.board.trusted.set(replace(trusted, schedule=replace(trusted.schedule, offers=tuple(self._offers))))
        return SmallRelease(manifest=verified, transport=manifest.transports[0])


def peer_of(device: str, *, seen_at: float) -> Peer:
    endpoint = Endpoint(host=device, port=1)
    return Peer(
        device=device,
        endpoint=endpoint,
        mirror=endpoint,
        info_hashes=frozenset(),
        has_other_state=False,
        tags=frozenset(),
        seen_at=seen_at,
    )


def data_for(position: int, *, seed: str = "") -> bytes:
    """Bytes of a stripe in which this endpoint has that place in the order of all three."""
    members = [Member(device=device) for device in (SELF.device, *OTHERS)]
    stripes = {stripe for stripe in range(STRIPES) if rank(rank_key(stripe), members)[position] == SELF.device}
    stripe = min(stripes)
    candidates = (f"{seed}{number}".encode() for number in count())
    return next(data for data in candidates if stripe_of(hashlib.sha256(data).hexdigest()) == stripe)


async def finished(carriage: SmallCarriage, *, seconds: float) -> None:
    with trio.fail_after(seconds):
        await carriage.finished.wait()
    assert carriage.refusal is None


async def test_one_that_is_busy_is_asked_again_in_a_moment_and_others_meanwhile(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """It does not count as lacking anything, so that nothing is fetched from the origin for its sake."""
    scene = Scene(tmp_path)
    release = scene.release(data := data_for(1))
    began = trio.current_time()

    async def busy_at_first(_device: str, wait_seconds: float) -> Mapping[str, bytes]:
        if trio.current_time() < began + 5 and wait_seconds:
            raise PeerBusy
        return {release.transport.content.sha256: data}

    scene.peers.behave = busy_at_first
    async with trio.open_nursery() as nursery:
        await nursery.start(scene.fetcher.run)
        scene.see(*OTHERS)
        await finished(scene.fetcher.carry(release), seconds=7.9)
        nursery.cancel_scope.cancel()
    assert scene.origin.asked == []
    assert {host for _, host in scene.peers.asked} == set(OTHERS)
    parent = scene.peers.asked[0][1]
    times = [moment for moment, host in scene.peers.asked if host == parent]
    assert all(later - earlier >= BUSY_SECONDS for earlier, later in pairwise(times))
    assert len(times) <= 5 / BUSY_SECONDS + 2


async def test_one_that_is_busy_for_ever_costs_a_stall(tmp_path: Path, autojump_clock: MockClock) -> None:
    scene = Scene(tmp_path)
    release = scene.release(data_for(1))

    async def busy(_device: str, wait_seconds: float) -> Mapping[str, bytes]:
        if wait_seconds:
            raise PeerBusy
        return {}

    scene.peers.behave = busy
    async with trio.open_nursery() as nursery:
        await nursery.start(scene.fetcher.run)
        scene.see(*OTHERS)
        await finished(scene.fetcher.carry(release), seconds=3 * TIMING.stall)
        nursery.cancel_scope.cancel()
    assert len(scene.peers.asked) < 30, "and no more than a question each two seconds"


async def test_what_keeps_coming_puts_nothing_off(tmp_path: Path, autojump_clock: MockClock) -> None:
    """The first of the stripe is silent, and each stall brings another release of it."""
    scene = Scene(tmp_path)
    scene.see(*OTHERS)
    async with trio.open_nursery() as nursery:
        await nursery.start(scene.fetcher.run)
        began = trio.current_time()
        first = scene.fetcher.carry(scene.release(data_for(1)))
        for number in range(10):
            await trio.sleep(TIMING.stall / 2)
            scene.fetcher.carry(scene.release(data_for(1, seed=f"more {number} ")))
        assert first.finished.is_set()
        nursery.cancel_scope.cancel()
    assert scene.origin.asked[0][1] == first.digest
    assert TIMING.stall <= scene.origin.asked[0][0] - began <= 2 * TIMING.stall


async def test_a_critical_one_is_urgent_until_it_is_there(tmp_path: Path, autojump_clock: MockClock) -> None:
    scene = Scene(tmp_path)
    async with trio.open_nursery() as nursery:
        await nursery.start(scene.fetcher.run)
        scene.fetcher.carry(scene.release(b"usual"))
        seen = [scene.fetcher.is_urgent]
        carriage = scene.fetcher.carry(scene.release(b"critical", Severity.CRITICAL))
        seen.append(scene.fetcher.is_urgent)
        await finished(carriage, seconds=60)
        seen.append(scene.fetcher.is_urgent)
        dropped = scene.fetcher.carry(scene.release(b"critical, too", Severity.CRITICAL))
        seen.append(scene.fetcher.is_urgent)
        scene.fetcher.drop(dropped.digest)
        seen.append(scene.fetcher.is_urgent)
        nursery.cancel_scope.cancel()
    assert seen == [False, True, False, True, False]


async def test_dropped_and_wanted_again_while_it_is_written(tmp_path: Path, autojump_clock: MockClock) -> None:
    """What comes late for the one that was dropped takes nothing from the other."""
    gates: list[trio.Event] = []

    async def slowly(sync_fn: Callable[..., T], *args: Any) -> T:
        gates.append(trio.Event())
        await gates[-1].wait()
        return sync_fn(*args)

    scene = Scene(tmp_path, slowly)
    release = scene.release(b"wanted twice")
    async with trio.open_nursery() as nursery:
        await nursery.start(scene.fetcher.run)
        old = scene.fetcher.carry(release)
        await trio.sleep(60)
        scene.fetcher.drop(old.digest)
        new = scene.fetcher.carry(release)
        await trio.sleep(60)
        first, second = gates
        second.set()
        await finished(new, seconds=1)
        first.set()
        await trio.sleep(1)
        assert scene.shelf.holds(new.digest)
        scene.fetcher.drop(new.digest)
        assert not scene.shelf.holds(new.digest)
        nursery.cancel_scope.cancel()


async def test_dropped_while_it_is_written_is_not_held_out(tmp_path: Path, autojump_clock: MockClock) -> None:
    gate = trio.Event()

    async def slowly(sync_fn: Callable[..., T], *args: Any) -> T:
        await gate.wait()
        return sync_fn(*args)

    scene = Scene(tmp_path, slowly)
    async with trio.open_nursery() as nursery:
        await nursery.start(scene.fetcher.run)
        carriage = scene.fetcher.carry(scene.release(b"withdrawn soon"))
        await trio.sleep(60)
        scene.fetcher.drop(carriage.digest)
        gate.set()
        await trio.sleep(1)
        assert not scene.shelf.holds(carriage.digest)
        assert not scene.shelf.expects(carriage.digest)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("is_hostile", "seconds"), [(False, FAILED_SECONDS), (True, HOSTILE_SECONDS)])
async def test_a_peer_that_failed_and_left_wakes_nobody(
    is_hostile: bool, seconds: float, autojump_clock: MockClock
) -> None:
    board = Board()
    site = SmallSite(board, SELF, TIMING)
    board.peers.set({"desk-2": peer_of("desk-2", seen_at=0.0)})
    site.shun("desk-2", is_hostile=is_hostile)
    assert not site.can_ask("desk-2", trio.current_time())
    board.peers.set({})
    assert site.seconds_to_next_pardon(trio.current_time()) == pytest.approx(seconds)
    await trio.sleep(seconds + 1)
    assert site.seconds_to_next_pardon(trio.current_time()) == float("inf")


async def test_a_peer_that_failed_is_asked_again_after_a_while(tmp_path: Path, autojump_clock: MockClock) -> None:
    scene = Scene(tmp_path)
    release = scene.release(data := data_for(1))
    began = trio.current_time()

    async def away_at_first(device: str, wait_seconds: float) -> Mapping[str, bytes]:
        if trio.current_time() < began + ASK_AGAIN_SECONDS / 2:
            raise PeerFailure(f"{device}: no route")
        return {release.transport.content.sha256: data}

    scene.peers.behave = away_at_first
    scene.board.passage.set(Passage(action=GateAction.LAN_ONLY, reason=Reason.LINK_METERED))
    async with trio.open_nursery() as nursery:
        await nursery.start(scene.fetcher.run)
        scene.see(*OTHERS)
        carriage = scene.fetcher.carry(release)
        await finished(carriage, seconds=FAILED_SECONDS + 5)
        nursery.cancel_scope.cancel()
