# SPDX-License-Identifier: Apache-2.0
"""When metadata is fetched and from whom, on a clock that stands still; and that nobody can keep it from the origin."""

import errno
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from p2pd.decisions.eligibility import Refusal
from p2pd.host.wall_clock import WallClock
from p2pd.ports import Endpoint
from p2pd.ports_control import (
    CoordinatorUnavailable,
    FromDisk,
    FromOrigin,
    FromPeer,
    MetadataSource,
    OfferProblem,
    Refused,
    ReportVerdict,
    StorageFailed,
    Trusted,
    TrustProblem,
)
from p2pd.services.metadata import PEER_SECONDS, REFRESH_SECONDS, MetadataKeeper
from p2pd.services.site import Board, Peer
from signing.errors import Expired, SourceUnavailable
from signing.reasons import Reason
from signing.recall import Recall, RecallList
from signing.verified import VerifiedManifest
from tests.fakes.frozen_clock import FrozenWallClock
from tests.p2pd.services.views import NOW, make_trusted

RECALL = Recall(product="tool", version="1.0", manifest_sha256="a" * 64, why="it deletes files")
Answer = Callable[[], Awaitable[Trusted]]


def gives(trusted: Trusted) -> Answer:
    async def answer() -> Trusted:
        await trio.lowlevel.checkpoint()
        return trusted

    return answer


def fails(problem: Exception) -> Answer:
    async def answer() -> Trusted:
        await trio.lowlevel.checkpoint()
        raise problem

    return answer


async def hangs() -> Trusted:
    await trio.sleep_forever()
    raise AssertionError


@dataclass
class FakeTrust:
    """Answers by source; `asked` says who was asked and when."""

    disk: Answer = field(default_factory=lambda: fails(SourceUnavailable("nothing there")))
    origin: Answer = field(default_factory=lambda: fails(SourceUnavailable("no route")))
    peers: dict[str, Answer] = field(default_factory=dict)
    asked: list[tuple[str, float]] = field(default_factory=list)
    told: list[int] = field(default_factory=list)  # editions that the origin was asked for
    mirror: Path = Path("mirror")

    async def refresh(self, source: MetadataSource) -> Trusted:
        kind = source.endpoint.host if isinstance(source, FromPeer) else type(source).__name__
        self.asked.append((kind, trio.current_time()))
        if isinstance(source, FromDisk):
            return await self.disk()
        if isinstance(source, FromOrigin):
            self.told.append(source.newest)
        return await (self.origin() if isinstance(source, FromOrigin) else self.peers[kind]())

    async def torrent(self, manifest: VerifiedManifest, transport_sha256: str | None = None) -> bytes:
        raise AssertionError

    def times(self, kind: str) -> list[float]:
        return [when for asked, when in self.asked if asked == kind]


@dataclass
class FakePoll:
    """The coordinator's long poll: `answer` is raised, returned at once, or waited for while it is None."""

    answer: int | Exception | None = None
    asked: list[float] = field(default_factory=list)
    _changed: trio.Event = field(default_factory=trio.Event)

    def say(self, answer: int | Exception | None) -> None:
        self.answer = answer
        self._changed.set()
        self._changed = trio.Event()

    async def wait_for_change(self, timestamp_version: int) -> int:
        self.asked.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        while self.answer is None:
            await self._changed.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def send_reports(self, envelopes: Sequence[bytes]) -> tuple[ReportVerdict, ...]:
        raise AssertionError

    async def renew_certificate(self, envelope: bytes) -> bytes:
        raise AssertionError


@dataclass
class Scene:
    """A keeper and whom it asks. Each test asks for the clock as well, since only then it runs on it."""

    clock: MockClock
    wall_clock: WallClock
    trust: FakeTrust = field(default_factory=FakeTrust)
    poll: FakePoll = field(default_factory=FakePoll)
    board: Board = field(default_factory=Board)

    @property
    def version(self) -> int:
        trusted = self.board.trusted.value
        return trusted.timestamp_version if trusted is not None else 0

    def show_peer(self, host: str) -> None:
        """A peer with other metadata comes into sight."""
        endpoint = Endpoint(host=host, port=1)
        peer = Peer(
            device=f"at-{host}",
            endpoint=endpoint,
            mirror=endpoint,
            info_hashes=frozenset(),
            has_other_state=True,
            tags=frozenset({host.encode()}),
            seen_at=0.0,
        )
        self.board.peers.set({**self.board.peers.value, peer.device: peer})

    async def pass_time(self, seconds: float, *, step: float = 0.5) -> None:
        await wait_all_tasks_blocked()
        for _ in range(int(seconds / step)):
            self.clock.jump(step)
            await wait_all_tasks_blocked()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        keeper = MetadataKeeper(self.trust, self.poll, self.board, self.wall_clock)
        async with trio.open_nursery() as nursery:
            await nursery.start(keeper.run)
            await wait_all_tasks_blocked()
            yield
            nursery.cancel_scope.cancel()


@pytest.fixture
def scene(frozen_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr("random.random", lambda: 0.5)
    return Scene(frozen_clock, FrozenWallClock(frozen_clock))


async def test_an_offline_start_knows_what_it_knew(scene: Scene, frozen_clock: MockClock) -> None:
    scene.trust.disk = gives(make_trusted(3))
    async with scene.running():
        assert scene.version == 3
        assert scene.board.metadata_problem.value == Refusal(reason=Reason.METADATA_UNREACHABLE, detail="no route")


async def test_the_origin_is_asked_on_a_hint_and_now_and_then(scene: Scene, frozen_clock: MockClock) -> None:
    scene.trust.origin = gives(make_trusted(3))
    async with scene.running():
        assert scene.board.metadata_problem.value is None
        await scene.pass_time(REFRESH_SECONDS + 1)
        assert scene.trust.times("FromOrigin") == [0, REFRESH_SECONDS]
        scene.trust.origin = gives(make_trusted(4))
        scene.poll.say(4)
        await wait_all_tasks_blocked()
        assert scene.version == 4


async def test_an_edition_that_is_told_of_is_asked_for_once(scene: Scene, frozen_clock: MockClock) -> None:
    scene.trust.origin = gives(make_trusted(3))
    async with scene.running():
        scene.trust.origin = fails(Expired("timestamp: expired"))
        scene.poll.say(5)
        await scene.pass_time(2)
        scene.trust.origin = gives(make_trusted(5))
        await scene.pass_time(60)
        assert scene.trust.told[:3] == [0, 5, 0]  # by name, since what is told of it may be what is broken
        assert scene.version == 5


async def test_an_origin_that_fails_is_asked_again_ever_more_rarely(scene: Scene, frozen_clock: MockClock) -> None:
    scene.trust.disk = gives(make_trusted(3))
    scene.trust.origin = fails(Expired("timestamp: expired"))
    async with scene.running():
        await scene.pass_time(130)
        assert scene.trust.times("FromOrigin") == [0, 1, 3, 7, 15, 31, 63, 123]
        assert scene.board.metadata_problem.value is not None
        assert scene.board.metadata_problem.value.reason is Reason.METADATA_EXPIRED
        assert scene.version == 3


@pytest.mark.parametrize("problem", [CoordinatorUnavailable("away"), Refused(None, "407 from a proxy")])
async def test_a_coordinator_that_refuses_is_asked_again_ever_more_rarely(
    scene: Scene, frozen_clock: MockClock, problem: Exception
) -> None:
    scene.trust.origin = gives(make_trusted(3))
    scene.poll.answer = problem
    async with scene.running():
        await scene.pass_time(130)
        assert scene.poll.asked == [0, 1, 3, 7, 15, 31, 63, 123]
        scene.trust.origin = gives(make_trusted(4))
        scene.poll.say(4)
        await scene.pass_time(61)
        assert scene.version == 4


@pytest.mark.parametrize("answer", [0, 3, 10**9])
async def test_a_proxy_that_answers_at_once_makes_no_storm(scene: Scene, frozen_clock: MockClock, answer: int) -> None:
    scene.trust.origin = gives(make_trusted(3))
    scene.poll.answer = answer
    async with scene.running():
        await scene.pass_time(300)
        assert len(scene.poll.asked) <= 11
        assert len(scene.trust.times("FromOrigin")) <= 12
        asked = len(scene.poll.asked)
        scene.poll.say(None)
        await scene.pass_time(120)
        assert len(scene.poll.asked) == asked + 1


async def test_news_one_after_another_are_fetched_without_a_pause(scene: Scene, frozen_clock: MockClock) -> None:
    scene.trust.origin = gives(make_trusted(1))
    async with scene.running():
        for version in range(2, 20):
            scene.trust.origin = gives(make_trusted(version))
            scene.poll.say(version)
            scene.poll.say(None)
            scene.poll.answer = version
            scene.poll.say(version)
            await wait_all_tasks_blocked()
            assert scene.version == version
            scene.poll.say(None)
            await scene.pass_time(2)


async def test_peers_are_asked_while_the_origin_is_away_once_each(scene: Scene, frozen_clock: MockClock) -> None:
    scene.poll.answer = CoordinatorUnavailable("away")
    scene.trust.peers = {"10.0.0.2": gives(make_trusted(5)), "10.0.0.3": fails(SourceUnavailable("liar"))}
    async with scene.running():
        scene.show_peer("10.0.0.3")
        await wait_all_tasks_blocked()
        assert scene.version == 0
        scene.show_peer("10.0.0.2")
        await scene.pass_time(20)
        assert scene.version == 5
        assert scene.trust.times("10.0.0.3") == [0]
        assert scene.trust.times("10.0.0.2") == [0]


async def test_peers_are_left_alone_while_the_origin_answers(scene: Scene, frozen_clock: MockClock) -> None:
    scene.trust.origin = gives(make_trusted(3))
    async with scene.running():
        scene.show_peer("10.0.0.2")
        await scene.pass_time(5)
        assert scene.trust.times("10.0.0.2") == []


async def test_a_peer_that_trickles_holds_nobody_for_long(scene: Scene, frozen_clock: MockClock) -> None:
    scene.poll.answer = CoordinatorUnavailable("away")
    scene.trust.peers = {"10.0.0.2": hangs, "10.0.0.3": gives(make_trusted(5))}
    async with scene.running():
        scene.show_peer("10.0.0.2")
        scene.show_peer("10.0.0.3")
        await scene.pass_time(PEER_SECONDS - 1)
        assert scene.version == 0
        await scene.pass_time(2)
        assert scene.version == 5
        asked = len(scene.trust.times("10.0.0.2"))
        await scene.pass_time(2 * PEER_SECONDS)
        assert len(scene.trust.times("10.0.0.2")) <= asked + 1


async def test_the_origin_cuts_a_peer_short_as_soon_as_it_is_back(scene: Scene, frozen_clock: MockClock) -> None:
    scene.poll.answer = CoordinatorUnavailable("away")
    scene.trust.peers = {"10.0.0.2": hangs}
    async with scene.running():
        scene.show_peer("10.0.0.2")
        await scene.pass_time(2)
        assert scene.trust.times("10.0.0.2") == [0]
        scene.trust.origin = gives(make_trusted(6))
        scene.poll.say(6)
        await scene.pass_time(3)
        assert scene.version == 6
        assert scene.trust.times("10.0.0.2") == [0]


async def test_a_peer_is_asked_again_when_the_origin_was_not_back_after_all(
    scene: Scene, frozen_clock: MockClock
) -> None:
    scene.poll.answer = CoordinatorUnavailable("away")
    scene.trust.peers = {"10.0.0.2": hangs}
    async with scene.running():
        scene.show_peer("10.0.0.2")
        await scene.pass_time(2)
        scene.trust.peers = {"10.0.0.2": gives(make_trusted(5))}
        scene.poll.say(6)
        scene.poll.answer = CoordinatorUnavailable("away")
        await scene.pass_time(1)
        scene.poll.say(6)
        await scene.pass_time(10)
        assert scene.version == 5


async def test_what_a_peer_holds_back_it_takes_from_nobody(scene: Scene, frozen_clock: MockClock) -> None:
    known = make_trusted(3)
    gap = TrustProblem(reason=Reason.METADATA_UNREACHABLE, detail="policy: 404")
    partial = replace(
        make_trusted(4), recalls=RecallList(version=2, recalls=(RECALL,)), schedule=None, general_problem=gap
    )
    scene.trust.disk = gives(known)
    scene.trust.peers = {"10.0.0.2": gives(partial)}
    async with scene.running():
        scene.show_peer("10.0.0.2")
        await scene.pass_time(2)
        assert scene.board.trusted.value == replace(known, recalls=partial.recalls)


@pytest.mark.parametrize("of_an_offer", [False, True])
async def test_what_the_origin_lacks_for_the_moment_is_looked_for_again_soon(
    scene: Scene, frozen_clock: MockClock, of_an_offer: bool
) -> None:
    gap = TrustProblem(reason=Reason.METADATA_UNREACHABLE, detail="policy: 503")
    partial = replace(make_trusted(4), general_problem=gap)
    if of_an_offer:
        missing = OfferProblem(
            product="tool", version="1.0", manifest_sha256="a" * 64, reason=gap.reason, detail=gap.detail
        )
        partial = replace(make_trusted(4), problems=(missing,))
    scene.trust.origin = gives(partial)
    async with scene.running():
        expected = None if of_an_offer else Refusal(reason=gap.reason, detail=gap.detail)
        assert scene.board.metadata_problem.value == expected
        assert scene.board.trusted.value == partial
        scene.trust.origin = gives(make_trusted(4))
        await scene.pass_time(2)
        assert scene.board.trusted.value == make_trusted(4)
        assert scene.board.metadata_problem.value is None
        assert scene.trust.times("FromOrigin") == [0, 1]


async def test_a_full_disk_is_a_problem_and_no_end(scene: Scene, frozen_clock: MockClock) -> None:
    scene.trust.origin = fails(StorageFailed(OSError(errno.ENOSPC, "No space left on device")))
    async with scene.running():
        assert scene.board.metadata_problem.value is not None
        assert scene.board.metadata_problem.value.reason is Reason.DISK_FULL
        scene.trust.origin = gives(make_trusted(4))
        await scene.pass_time(2)
        assert scene.version == 4


async def test_the_clock_never_goes_back_behind_a_signed_schedule(scene: Scene, frozen_clock: MockClock) -> None:
    scene.trust.disk = gives(make_trusted(3, issued=NOW + 200))
    async with scene.running():
        assert scene.wall_clock.unix() == NOW + 200
        scene.trust.origin = gives(make_trusted(4, issued=NOW + 100_000))
        await scene.pass_time(2)
        assert scene.version == 4
        assert scene.wall_clock.unix() == NOW + 200
