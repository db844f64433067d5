# SPDX-License-Identifier: Apache-2.0
"""Filling one torrent: what the origin is asked for, and when it is left alone, on a clock that stands still."""

import hashlib
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pytest
import trio
from prometheus_client import CollectorRegistry
from trio.testing import MockClock, wait_all_tasks_blocked

from p2pd.decisions.ambassadors import Fetch, SiteView, Timing, Wait, rank
from p2pd.piece_set import NO_PIECES, PieceSet
from p2pd.ports import Endpoint, Neighbour, OriginFailure, TransferProgress
from p2pd.services.fetching import Filler, Received, Release
from p2pd.services.lan_sharing import LanShare, LanSharing
from p2pd.services.metrics import AgentMetrics
from p2pd.services.origin_sharing import OriginSharing
from p2pd.services.site import Board, Identity
from signing.codec import encode
from signing.manifest import Content, Manifest, SegmentTorrent, Transport
from signing.reasons import Reason
from signing.schedule import Member
from signing.verified import open_manifest

PIECE_BYTES, PIECES = 1_000, 6
CONTENT = Content(sha256="a" * 64, size=PIECE_BYTES * PIECES)
TORRENT = SegmentTorrent(segment="office", info_hash="b" * 64, target="patches/app/1/office.torrent")
TRANSPORT = Transport(codec="zstd", content=CONTENT, torrents=(TORRENT,))


@dataclass
class TableTransfer:
    """A torrent whose every piece is right; the test moves pieces as peers would."""

    have: PieceSet = NO_PIECES
    peers_have: PieceSet = NO_PIECES
    news: trio.Event = field(default_factory=trio.Event)

    def progress(self) -> TransferProgress:
        return TransferProgress(
            piece_count=PIECES,
            piece_bytes=PIECE_BYTES,
            total_bytes=CONTENT.size,
            have=self.have,
            peers_have=self.peers_have,
            spread=self.peers_have,
            on_disk=NO_PIECES,
            peers=(),
            bytes_lan=0,
            is_complete=len(self.have) == PIECES,
        )

    async def changed(self) -> None:
        await self.news.wait()
        self.news = trio.Event()

    def connect(self, endpoint: Endpoint) -> None:
        raise AssertionError(f"nobody is to be dialled, not even {endpoint}")

    def neighbours(self) -> Sequence[Neighbour]:
        return ()

    async def neighbours_changed(self) -> None:
        await trio.sleep_forever()

    def corruptions(self) -> Mapping[bytes, int]:
        return {}

    def ignore(self, peers: Collection[bytes]) -> None:
        raise AssertionError(peers)

    def limit(self, *, upload: int | None, download: int | None) -> None:
        raise AssertionError("there is nothing to stand back for")

    async def add_piece(self, index: int, data: bytes) -> bool:
        await trio.lowlevel.checkpoint()
        assert len(data) == PIECE_BYTES
        self.have |= PieceSet.of([index])
        self.news.set()
        return True


@dataclass
class ScriptedOrigin:
    """Sends a piece a second; `before_piece` may interfere."""

    source: Literal["origin", "web"] = "origin"
    asked: list[tuple[int, int]] = field(default_factory=list)
    before_piece: Callable[[int], None] = lambda _: None

    async def ranges(self, sha256: str, start: int, length: int) -> AsyncGenerator[bytes, None]:
        assert sha256 == CONTENT.sha256
        self.asked.append((start // PIECE_BYTES, length // PIECE_BYTES))
        for piece in range(start // PIECE_BYTES, (start + length) // PIECE_BYTES):
            self.before_piece(piece)
            await trio.sleep(1)
            yield bytes(PIECE_BYTES)


def filler(transfer: TableTransfer, origin: ScriptedOrigin, received: Received, board: Board | None = None) -> Filler:
    manifest = Manifest(product="app", version="1", release_counter=1, payload=CONTENT, transports=(TRANSPORT,))
    data = encode(manifest)

    verified = open_manifest(data, sha256=hashlib.sha256(data).hexdigest(), where="test")
    return Filler(
        Release(manifest=verified, transport=TRANSPORT, torrent=TORRENT),
        transfer,
        received,
        origin=origin,
        board=board or Board(),
        identity=Identity(device="pc-1", segment="office", site="main"),
        metrics=AgentMetrics(CollectorRegistry()),
        timing=Timing(settle=1.0, stall=8.0),
        sharing=OriginSharing(),
        lan_share=LanShare(LanSharing(), transfer, weight=1),
        read_ahead=trio.sleep,
    )


async def let_pass(clock: MockClock, seconds: int) -> None:
    for _ in range(seconds):
        await wait_all_tasks_blocked()
        clock.jump(1)
    await wait_all_tasks_blocked()


async def test_an_endpoint_alone_at_its_site_brings_everything_in_one_request(frozen_clock: MockClock) -> None:
    transfer, origin, received = TableTransfer(), ScriptedOrigin(), Received()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(filler(transfer, origin, received).fill)
        await let_pass(frozen_clock, PIECES + 1)
    assert origin.asked == [(0, PIECES)]
    assert received.origin == CONTENT.size


async def test_a_run_ends_where_somebody_else_has_brought_the_rest(frozen_clock: MockClock) -> None:
    """Two that fetch at once, as after a takeover, do not send the same pieces over the WAN to the end."""
    transfer, received = TableTransfer(), Received()

    def another_brings_the_rest(piece: int) -> None:
        if piece == 2:
            transfer.have |= PieceSet.of([3, 4, 5])

    origin = ScriptedOrigin(before_piece=another_brings_the_rest)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(filler(transfer, origin, received).fill)
        await let_pass(frozen_clock, PIECES + 1)
    assert origin.asked == [(0, PIECES)]
    assert received.origin == 3 * PIECE_BYTES


async def test_after_a_wrong_piece_nothing_of_the_next_one_is_taken_for_it(frozen_clock: MockClock) -> None:
    """The answer arrives at once, so that the pieces behind the wrong one are in memory already."""

    class PickyTransfer(TableTransfer):
        async def add_piece(self, index: int, data: bytes) -> bool:
            return data == bytes([index]) * PIECE_BYTES and await super().add_piece(index, data)

    class OnceWrong(ScriptedOrigin):
        async def ranges(self, sha256: str, start: int, length: int) -> AsyncGenerator[bytes, None]:
            payload = bytearray().join(bytes([piece]) * PIECE_BYTES for piece in range(PIECES))
            if not self.asked:
                payload[2 * PIECE_BYTES] = 255
            self.asked.append((start, length))
            yield bytes(payload[start : start + length])

    transfer, origin, received = PickyTransfer(), OnceWrong(), Received()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(filler(transfer, origin, received).fill)
        await let_pass(frozen_clock, 5)
        nursery.cancel_scope.cancel()
    assert len(transfer.have) == PIECES
    assert len(origin.asked) <= 4


async def test_an_origin_that_fails_is_left_alone_for_a_while_whatever_else_is_news(frozen_clock: MockClock) -> None:
    transfer, received = TableTransfer(), Received()

    def is_away(piece: int) -> None:
        raise OriginFailure(Reason.ORIGIN_UNREACHABLE, "the link is down")

    origin = ScriptedOrigin(before_piece=is_away)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(filler(transfer, origin, received).fill)
        for _ in range(40):
            transfer.news.set()
            await let_pass(frozen_clock, 1)
        assert received.waiting.value is Reason.ORIGIN_UNREACHABLE
        nursery.cancel_scope.cancel()
    assert 4 <= len(origin.asked) <= 7  # after 1, 2, 4, 8, 16 … seconds


@pytest.mark.parametrize("source", ["origin", "web"])
async def test_bytes_are_counted_by_where_they_came_from(
    frozen_clock: MockClock, source: Literal["origin", "web"]
) -> None:
    transfer, origin, received = TableTransfer(), ScriptedOrigin(source=source), Received()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(filler(transfer, origin, received).fill)
        await let_pass(frozen_clock, PIECES + 1)
    assert {"origin": received.origin, "web": received.web}[source] == CONTENT.size
    assert received.origin + received.web == CONTENT.size


async def test_one_who_takes_over_shares_the_budget_with_all_whose_turn_came_before(
    frozen_clock: MockClock,
) -> None:
    """They may be fetching still, each with its share of the site's budget."""
    transfer, origin, received, board = TableTransfer(), ScriptedOrigin(), Received(), Board()
    filling = filler(transfer, origin, received, board)
    ranked = rank(TORRENT.info_hash, [Member(device=f"pc-{number}") for number in range(1, 6)])
    place = ranked.index("pc-1")
    view = SiteView(
        me="pc-1",
        ranked=ranked,
        connected=frozenset(ranked) - {"pc-1"},
        expected={},
        carriers=frozenset(),
        listening_since=0.0,
        began=0.0,
        last_progress=0.0,
    )
    progress = transfer.progress()
    filling._note_fetching(progress, view, Wait(until=1.0, reason=Reason.WAITING_FOR_AMBASSADOR), 1)
    assert board.fetching == {TORRENT.info_hash: frozenset(ranked[:1])}
    filling._note_fetching(progress, view, Fetch(ambassadors=("pc-1",), reason=Reason.TOOK_OVER_STALLED), 1)
    assert board.fetching == {TORRENT.info_hash: frozenset(ranked[: place + 1]) | frozenset(ranked[:1])}
    transfer.peers_have = PieceSet.first(PIECES)
    filling._note_fetching(transfer.progress(), view, Wait(until=1.0, reason=Reason.WAITING_FOR_AMBASSADOR), 1)
    assert board.fetching == {TORRENT.info_hash: frozenset()}, "what is at the site crosses no WAN"
