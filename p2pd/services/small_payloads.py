# SPDX-License-Identifier: Apache-2.0
"""Carries small payloads, which have no torrent: from a peer of the segment, or from the origin for all of them.

Thousands of them cost one question per peer, not one each: whatever one peer is to be asked for goes into one request,
which waits at that peer until it has something (no polling). Who is asked is `decisions/small_sources`' to say. Bytes
count once they have the length and the SHA-256 that the signed manifest names.
"""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import trio

from p2pd.decisions.ambassadors import Timing, Wait
from p2pd.decisions.eligibility import Refusal
from p2pd.decisions.small_sources import ASK_AGAIN_SECONDS, AskOrigin, AskPeer, choose_source, stripe_of
from p2pd.host.backoff import restart_delay
from p2pd.host.latest import Latest, first_of
from p2pd.host.telemetry import log
from p2pd.ports import Origin, OriginFailure, PayloadStoreFull
from p2pd.ports_control import StorageFailed
from p2pd.ports_small import MAX_WANTED, PeerBusy, PeerFailure, SmallPeers, SmallShelf
from p2pd.services.fetching import Received
from p2pd.services.metrics import AgentMetrics
from p2pd.services.site import Board, Identity
from p2pd.services.small_site import SmallSite
from signing.manifest import Severity, Transport
from signing.reasons import Reason
from signing.verified import VerifiedManifest

MAX_CARRIED = 20_000  # what schedules can offer at once, twice; a few hundred bytes of memory each
BUSY_SECONDS = 2.0  # before a peer that could not wait with us is asked for the same again
MOST_QUESTIONS = 3  # to one peer at once that may wait: what is wanted later need not wait for what is wanted already
GATHER_SECONDS = 0.02  # before deciding, so that what is wanted at once is asked for at once;
MOST_GATHER_SECONDS = 0.2  # and as long as more keeps coming
ORIGIN_REQUESTS = 4  # at once: as many connections, and no round trip shows
ORIGIN_BATCH = 32  # payloads from the origin between two looks at who else may have them,
KEPT_TOGETHER = 8  # so many of them in one turn of the disk, unless
KEEP_SECONDS = 0.2  # pass before they have come

_SMALL = "small payloads"  # the one key for all of them on the board
_SEVERITIES = tuple(Severity)  # least first

_log = log("small payloads")


@dataclass(frozen=True, kw_only=True)
class SmallRelease:
    """A verified release whose transport has no torrent."""

    manifest: VerifiedManifest
    transport: Transport


class SmallCarriage:
    """One small payload on its way. `finished` is set when it is on disk, or when `refusal` says why not."""

    def __init__(self, release: SmallRelease) -> None:
        self.release = release
        self.received = Received()
        self.finished = trio.Event()
        self.refusal: Refusal | None = None
        self.began = trio.current_time()
        self.stripe = stripe_of(self.digest)
        self.lacked: dict[str, float] = {}  # when peers said, or showed, that they lack it
        self.busy: dict[str, float] = {}  # until when peers that could not wait with us are left alone with it
        self.wanted_since: float | None = None  # the first look at it

    @property
    def digest(self) -> str:
        """SHA-256 of the transport."""
        return self.release.transport.content.sha256

    def finish(self, refusal: Refusal | None) -> None:
        """Say how it ended, once."""
        if not self.finished.is_set():
            self.refusal = refusal
            self.received.waiting.set(None)
            self.finished.set()

    def forget_old(self, now: float) -> None:
        """What peers lacked a while ago they may have by now."""
        if self.lacked:
            self.lacked = {device: when for device, when in self.lacked.items() if now < when + ASK_AGAIN_SECONDS}
        if self.busy:
            self.busy = {device: until for device, until in self.busy.items() if now < until}


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """Who is asked for what now, and when to look again."""

    questions: Mapping[tuple[str, bool], Sequence[tuple[SmallCarriage, float]]]  # by device, and whether it may wait
    from_origin: Sequence[SmallCarriage]
    pause: float


class SmallPayloads:
    """All small payloads of this endpoint, by the digest of their transport."""

    def __init__(
        self,
        *,
        peers: SmallPeers,
        shelf: SmallShelf,
        origin: Origin,
        board: Board,
        identity: Identity,
        metrics: AgentMetrics,
        timing: Timing,
    ) -> None:
        self._peers = peers
        self._shelf = shelf
        self._origin = origin
        self._board = board
        self._metrics = metrics
        self._timing = timing
        self._site = SmallSite(board, identity, timing)
        self._carried: dict[str, SmallCarriage] = {}
        self._missing: dict[str, SmallCarriage] = {}  # those for which nobody is being asked now
        self._urgent: set[SmallCarriage] = set()  # critical ones, until the next look after they finished
        self._asking: Counter[tuple[str, bool]] = Counter()
        self._me = identity.device
        self._from_origin = 0
        self._failures, self._origin_again_at = 0, -math.inf
        self._news = Latest(0)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Fetch whatever `carry` is told to, for ever."""
        peers, trusted, news = self._board.peers.watch(), self._board.trusted.watch(), self._news.watch()
        passage = self._board.passage.watch()
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                if not self._missing:
                    if not self._from_origin:
                        self._board.fetching.pop(_SMALL, None)
                    await news.changed()
                await self._gather()
                pause = self._hand_out(nursery)
                await first_of(news.changed, peers.changed, trusted.changed, passage.changed, seconds=pause)

    async def _gather(self) -> None:
        """Let what is wanted at the same time come together: a question costs the same for one and for hundreds."""
        ends = trio.current_time() + MOST_GATHER_SECONDS
        known = -1
        while known != len(self._missing) and trio.current_time() < ends:
            known = len(self._missing)
            await trio.sleep(GATHER_SECONDS)

    def carry(self, release: SmallRelease) -> SmallCarriage:
        """Begin to carry a payload, or go on. Never blocks. One that failed is begun anew."""
        digest = release.transport.content.sha256
        present = self._carried.get(digest)
        if present is not None and present.refusal is None:
            return present
        carriage = SmallCarriage(release)
        if len(self._carried) >= MAX_CARRIED:
            carriage.finish(Refusal(reason=Reason.BUSY, detail=f"{MAX_CARRIED} small payloads are carried already"))
            return carriage
        self._carried[digest] = self._missing[digest] = carriage
        self._shelf.expect(digest)
        if release.manifest.manifest.severity is Severity.CRITICAL:
            self._urgent.add(carriage)
        self._tell()
        return carriage

    async def keep(self, releases: Sequence[SmallRelease]) -> None:
        """Hold out to others what lies on disk of these; whatever does not is left alone. Raises StorageFailed."""
        new = [release for release in releases if release.transport.content.sha256 not in self._carried]
        found = await self._shelf.adopt([release.transport.content for release in new]) if new else frozenset()
        for release in new:
            if release.transport.content.sha256 in found:
                carriage = SmallCarriage(release)
                carriage.finish(None)
                self._carried.setdefault(carriage.digest, carriage)

    def find(self, digest: str) -> SmallCarriage | None:
        """The carriage of that transport, if there is one."""
        return self._carried.get(digest)

    @property
    def digests(self) -> frozenset[str]:
        """Transports being carried now."""
        return frozenset(self._carried)

    @property
    def is_urgent(self) -> bool:
        """Whether a critical release is on its way."""
        self._urgent = {carriage for carriage in self._urgent if not carriage.finished.is_set()}
        return bool(self._urgent)

    def drop(self, digest: str) -> None:
        """Stop carrying, and hand it to nobody any more; what is on disk stays."""
        carriage = self._carried.pop(digest, None)
        self._missing.pop(digest, None)
        self._shelf.forget(digest)
        if carriage is not None:
            carriage.finish(Refusal(reason=Reason.SUPERSEDED))

    def _tell(self) -> None:
        self._news.set(self._news.value + 1)

    def _hand_out(self, nursery: trio.Nursery) -> float:
        """Start whatever may start now; the seconds after which to look again if nothing is news until then."""
        plan = self._plan()
        for (device, may_wait), question in plan.questions.items():
            self._asking[device, may_wait] += 1
            for carriage, _ in question[:MAX_WANTED]:
                del self._missing[carriage.digest]
            nursery.start_soon(self._ask, device, may_wait, question[:MAX_WANTED])
        queue = list(plan.from_origin)
        while queue and self._from_origin < ORIGIN_REQUESTS:
            batch, queue = queue[:ORIGIN_BATCH], queue[ORIGIN_BATCH:]
            self._from_origin += 1
            for carriage in batch:
                del self._missing[carriage.digest]
            nursery.start_soon(self._bring, batch)
        return plan.pause

    def _plan(self) -> _Plan:
        """One decision for all that are alike: of one stripe, for the same members, lacked by the same peers."""
        self._site.look()
        now, passage = trio.current_time(), self._board.passage.value
        decided: dict[object, AskPeer | AskOrigin | Wait] = {}
        questions: dict[tuple[str, bool], list[tuple[SmallCarriage, float]]] = defaultdict(list)
        from_origin: list[SmallCarriage] = []
        pause = self._site.seconds_to_next_pardon(now)
        firsts: set[str] = set()
        for carriage in sorted(self._missing.values(), key=_urgency):
            carriage.forget_old(now)
            sha256, lacked, busy = carriage.release.manifest.sha256, carriage.lacked, frozenset(carriage.busy)
            if carriage.wanted_since is None:
                carriage.wanted_since = now
            moved = max(carriage.wanted_since, self._site.moved_at(carriage.stripe))
            alike = (carriage.stripe, self._site.ring_key(sha256), frozenset(lacked.items()), busy, moved)
            if alike not in decided:
                view = self._site.view(carriage.stripe, sha256, wanted_since=carriage.wanted_since)
                firsts.add(view.live[0])
                decided[alike] = choose_source(view, lacked=lacked, busy=busy, now=now, timing=self._timing)
            source = decided[alike]
            if lacked:
                pause = min(pause, min(lacked.values()) + ASK_AGAIN_SECONDS - now)
            if busy:
                pause = min(pause, min(carriage.busy.values()) - now)
            if not passage.may_download:
                self._say(carriage, passage.reason)
            elif isinstance(source, AskPeer):
                kind = source.device, source.wait_seconds > 0
                if self._asking[kind] < (MOST_QUESTIONS if source.wait_seconds else 1):
                    questions[kind].append((carriage, source.wait_seconds))
            elif isinstance(source, Wait):
                self._say(carriage, source.reason)
                pause = min(pause, source.until - now)
            elif not passage.may_fetch:
                self._say(carriage, passage.reason)
            elif now < self._origin_again_at:
                pause = min(pause, self._origin_again_at - now)
            else:
                self._say(carriage, source.reason)
                from_origin.append(carriage)
        self._board.fetching[_SMALL] = frozenset((*firsts, self._me) if from_origin else firsts)
        return _Plan(questions=questions, from_origin=from_origin, pause=max(pause, 0.01))

    async def _ask(self, device: str, may_wait: bool, question: Sequence[tuple[SmallCarriage, float]]) -> None:
        """One question to one peer, about everything that is to come from it."""
        wait_seconds = min(seconds for _, seconds in question)
        carriages = [carriage for carriage, _ in question]
        try:
            brought = await self._answer_of(device, carriages, wait_seconds)
            good = {carriage.digest: carriage for carriage in carriages if carriage.digest in brought}
            await self._keep({digest: brought[digest] for digest in good}, good, source="lan")
            if not good:
                self._note_lack(device, question, wait_seconds)
        except PeerBusy:
            until = trio.current_time() + BUSY_SECONDS
            for carriage in carriages:
                carriage.busy[device] = until
        except PeerFailure as failure:
            self._site.shun(device, is_hostile=failure.is_hostile)
            tell = _log.warning if failure.is_hostile else _log.info
            tell("a peer failed", peer=device, is_hostile=failure.is_hostile, why=str(failure))
        finally:
            self._asking[device, may_wait] -= 1
            self._put_back(carriages)

    async def _answer_of(
        self, device: str, carriages: Sequence[SmallCarriage], wait_seconds: float
    ) -> Mapping[str, bytes]:
        peer = self._site.peer(device)
        if peer is None or peer.mirror is None:
            raise PeerFailure("it has just departed")
        wanted = [carriage.release.transport.content for carriage in carriages]
        brought = await self._peers.ask(peer.mirror, wanted, wait_seconds=wait_seconds)
        wrong = [digest for digest, data in brought.items() if hashlib.sha256(data).hexdigest() != digest]
        if wrong:
            raise PeerFailure(f"{len(wrong)} of {len(brought)} payloads have the wrong hash", is_hostile=True)
        return brought

    def _note_lack(self, device: str, question: Sequence[tuple[SmallCarriage, float]], waited: float) -> None:
        """Nothing came in the time that it was granted; what was granted more is no news yet."""
        now = trio.current_time()
        for carriage, seconds in question:
            if seconds <= waited:
                carriage.lacked[device] = now

    async def _bring(self, batch: Sequence[SmallCarriage]) -> None:
        """Get some payloads from the origin, one after the other over one connection."""
        try:
            done = 0
            while done < len(batch):
                done += await self._bring_some(batch[done : done + KEPT_TOGETHER])
        except OriginFailure as failure:
            self._failures += 1
            self._origin_again_at = trio.current_time() + restart_delay(self._failures)
            for carriage in batch:
                self._say(carriage, failure.reason)
            _log.warning("the origin failed", reason=failure.reason, why=str(failure))
        finally:
            self._from_origin -= 1
            self._put_back(batch)

    async def _bring_some(self, few: Sequence[SmallCarriage]) -> int:
        """As many as a moment brings; what has come is kept in one turn of the disk, whatever becomes of the next.

        How many of `few` need not be brought any more.
        """
        brought: dict[str, bytes] = {}
        ends, done = trio.current_time() + KEEP_SECONDS, 0
        try:
            while done < len(few) and trio.current_time() < ends:
                if not few[done].finished.is_set():  # or it was dropped meanwhile
                    brought[few[done].digest] = await self._download(few[done])
                    self._failures = 0
                done += 1
        finally:  # also when the origin fails
            good = {carriage.digest: carriage for carriage in few if carriage.digest in brought}
            await self._keep(brought, good, source=self._origin.source)
        return done

    async def _download(self, carriage: SmallCarriage) -> bytes:
        content, buffer = carriage.release.transport.content, bytearray()
        async with aclosing(self._origin.ranges(content.sha256, 0, content.size)) as chunks:
            async for chunk in chunks:
                carriage.received.origin += len(chunk) if self._origin.source == "origin" else 0
                carriage.received.web += len(chunk) if self._origin.source == "web" else 0
                self._metrics.received(self._origin.source, len(chunk))
                buffer += chunk
        if len(buffer) != content.size or hashlib.sha256(buffer).hexdigest() != content.sha256:
            raise OriginFailure(Reason.ORIGIN_REFUSED, f"{content.sha256}: {len(buffer)} bytes, not what was signed")
        return bytes(buffer)

    async def _keep(
        self, payloads: Mapping[str, bytes], carriages: Mapping[str, SmallCarriage], *, source: str
    ) -> None:
        if not payloads:
            return
        refusal: Refusal | None = None
        try:
            await self._shelf.put(payloads)
        except (PayloadStoreFull, StorageFailed) as problem:
            refusal = Refusal(reason=problem.reason, detail=str(problem))
            _log.warning("small payloads not kept", reason=problem.reason, why=str(problem))
        for digest, carriage in carriages.items():
            if source == "lan":
                carriage.received.lan += len(payloads[digest])
                self._metrics.received("lan", len(payloads[digest]))
                self._site.moved(carriage.stripe)
            if self._carried.get(digest) is carriage:
                self._metrics.transfer_seconds.observe(trio.current_time() - carriage.began)
                carriage.finish(refusal)
                if refusal is not None:
                    self._shelf.forget(digest)  # nobody need wait for it here
            elif digest not in self._carried:
                self._shelf.forget(digest)  # dropped while it came; one that is carried anew is as good on the shelf

    def _put_back(self, carriages: Sequence[SmallCarriage]) -> None:
        for carriage in carriages:
            if not carriage.finished.is_set() and self._carried.get(carriage.digest) is carriage:
                self._missing[carriage.digest] = carriage
        self._tell()

    def _say(self, carriage: SmallCarriage, reason: Reason | None) -> None:
        waiting = carriage.received.waiting
        if reason is not None and reason is not waiting.value:
            self._metrics.refused(reason.value)
        waiting.set(reason)


def _urgency(carriage: SmallCarriage) -> int:
    return -_SEVERITIES.index(carriage.release.manifest.manifest.severity)
