# SPDX-License-Identifier: Apache-2.0
"""One agent of the swarm model: what the real services do around the shipping decisions, without tasks or I/O."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import cache, reduce
from operator import or_

from p2pd.decisions.ambassadors import Fetch, Timing, Wait, ambassador_count, decide_role, is_stalled
from p2pd.decisions.neighbours import Bounds, plan
from p2pd.decisions.neighbours import SwarmView as Surroundings
from p2pd.decisions.peer_health import Health, is_banned, is_forgiven, struck
from p2pd.decisions.stripes import PieceRun, entry_point, next_run
from p2pd.piece_set import NO_PIECES, PieceSet
from p2pd.ports import TransferProgress, peer_id_of
from p2pd.ports_control import Trusted
from p2pd.services.site import Board, Identity, Link, Peer
from p2pd.services.swarm_view import SwarmView
from signing.reasons import Reason

TIMING = Timing()
BOUNDS = Bounds()
MOST_CONNECTIONS = 64
RUN_PIECES = 4
GUARD_PIECES = 2 * RUN_PIECES
REQUESTS = 2
NEWS_SECONDS = 2.0
OBSERVE_SECONDS = 1.0  # those who do not fetch need not look at every piece


@dataclass(frozen=True, kw_only=True)
class ModelledRelease:
    """What is on its way."""

    info_hash: str
    manifest_sha256: str
    piece_count: int

    @property
    def everything(self) -> PieceSet:
        """All pieces."""
        return PieceSet.first(self.piece_count)


@dataclass
class Request:
    """A range request under way: what is left of it."""

    left: list[int]
    reason: Reason | None


@dataclass(eq=False)
class ModelledAgent:
    """State and decisions of one agent; its site moves the pieces."""

    device: str
    release: ModelledRelease
    trusted: Trusted
    ranked: tuple[str, ...]
    began: float
    have: PieceSet = NO_PIECES
    is_alive: bool = True
    finished_at: float | None = None
    requests: list[Request] = field(default_factory=list)
    connections: dict[str, "ModelledAgent"] = field(default_factory=dict)
    highest_degree: int = 0

    def __post_init__(self) -> None:
        self.board = Board()
        self.board.trusted.set(self.trusted)
        self.board.listening_since.set(self.began)
        self.bytes_lan = 0
        self._swarm = SwarmView(
            info_hash=self.release.info_hash,
            manifest_sha256=self.release.manifest_sha256,
            board=self.board,
            identity=Identity(device=self.device, segment="default", site="hq"),
            timing=TIMING,
            began=self.began,
        )
        self._health: dict[str, Health] = {}
        self._wanted_since: dict[str, float] = {}
        self._dialled_at: dict[str, float] = {}
        self._connected_since: dict[str, float] = {}
        self._plan_at = self.began
        self._decide_at = self.began + TIMING.settle  # before, everybody waits
        self._observe_at = self.began
        self._latency: dict[str, float] = {}

    @property
    def is_complete(self) -> bool:
        """Nothing is missing."""
        return self.have == self.release.everything

    def hear(self, peers: Mapping[str, Peer], now: float) -> None:
        """Who announces the torrent now."""
        self.board.peers.set(peers)
        self._plan_at = 0.0
        self._decide_soon(now)

    def meet(self, other: "ModelledAgent", now: float, latency: float) -> None:
        """A connection has come about."""
        self.connections[other.device] = other
        self._connected_since[other.device] = now
        self._latency[other.device] = latency
        self._dialled_at.pop(other.device, None)
        self.highest_degree = max(self.highest_degree, len(self.connections))
        self._decide_soon(now)

    def lose(self, other: str, now: float) -> None:
        """A connection has broken."""
        del self.connections[other]
        self._strike(other, Reason.PEER_LOST, now)
        self._plan_at = 0.0
        self._decide_soon(now)

    def dials(self, now: float) -> Sequence[str]:
        """Whom to dial now: the work of `Introductions`."""
        if now < self._plan_at:
            return ()
        for device, health in list(self._health.items()):
            since = self._connected_since.get(device) if device in self.connections else None
            if is_forgiven(health, connected_since=since, now=now):
                del self._health[device]
        view = Surroundings(
            me=self.device,
            info_hash=self.release.info_hash,
            ranked=self.ranked,
            announced=self.board.peers.value.keys(),
            connected=self.connections.keys(),
            latency=self._latency,
            health=self._health,
            wanted_since=self._wanted_since,
            dialled_at=self._dialled_at,
        )
        decided = plan(view, now=now, bounds=BOUNDS)
        while decided.unanswered:
            for device in decided.unanswered:
                del self._dialled_at[device]
                self._strike(device, Reason.PEER_UNREACHABLE, now)
            decided = plan(view, now=now, bounds=BOUNDS)
        assert len(decided.wanted) <= BOUNDS.most
        assert not any(is_banned(self._health.get(device), now=now) for device in decided.dial)
        self._wanted_since = {device: self._wanted_since.get(device, now) for device in decided.wanted}
        self._dialled_at |= dict.fromkeys(decided.dial, now)
        self._dialled_at = {device: at for device, at in self._dialled_at.items() if device in decided.wanted}
        self._plan_at = float("inf") if decided.look_again is None else decided.look_again
        self._show(decided.wanted.keys(), now)
        return decided.dial

    def observe(self, now: float) -> None:
        """Note what others have moved."""
        if self.requests or now >= self._observe_at:
            self._observe_at = now + OBSERVE_SECONDS
            self._swarm.observe(self._progress(), now=now)

    def ask(self, now: float) -> None:
        """Begin the requests that the rules allow: the work of `Filler`."""
        if now < self._decide_at or self.is_complete:
            return
        progress = self._progress()
        site = self._swarm.site(progress, now=now)
        count = ambassador_count(
            live=len(site.live),
            piece_count=self.release.piece_count,
            piece_bytes=1,
            rates=None,
        )
        role = decide_role(site, now=now, timing=TIMING, ambassador_count=count)
        if isinstance(role, Wait):
            self._decide_at = role.until
            return
        is_first = self.device in site.fetchers[:count]
        assert is_first or role.reason is Reason.TOOK_OVER_STALLED, "nobody else goes to the origin without a reason"
        while len(self.requests) < REQUESTS:
            stalled = not self.requests and is_stalled(site, now=now, timing=TIMING)
            run = self._next_run(progress, role, stalled=stalled, now=now)
            if run is None:
                break
            reason = Reason.TOOK_OVER_STALLED if stalled and role.reason is None else role.reason
            self.requests.append(Request(left=list(run.pieces), reason=reason))
        self._decide_at = now + 0.5

    def ask_again(self) -> None:
        """A request has ended."""
        self._decide_at = 0.0

    def bring(self, piece: int) -> None:
        """A piece came from the origin."""
        self._swarm.bring(piece, self._progress())
        self.have |= PieceSet(1 << piece)

    def _decide_soon(self, now: float) -> None:
        """News come in bursts, and most change nothing."""
        self._decide_at = min(self._decide_at, max(now + NEWS_SECONDS, self.began + TIMING.settle))

    def _next_run(self, progress: TransferProgress, role: Fetch, *, stalled: bool, now: float) -> PieceRun | None:
        under_way = PieceSet.of(piece for request in self.requests for piece in request.left)
        wanted = self.release.everything - progress.have - self._swarm.offered(progress, now=now) - under_way
        ambassadors = (self.device,) if role.is_takeover else role.ambassadors
        run = None
        if wanted and not role.is_takeover:
            run = next_run(
                me=self.device,
                ambassadors=ambassadors,
                piece_count=self.release.piece_count,
                wanted=wanted,
                longest=RUN_PIECES,
                guard=GUARD_PIECES,
            )
        if run is None and wanted and (role.is_takeover or stalled):
            run = next_run(
                me=self.device,
                ambassadors=(self.device,),
                piece_count=self.release.piece_count,
                wanted=wanted,
                longest=RUN_PIECES,
                start_at=entry_point(self.device, self.release.piece_count),
            )
        return run

    def _progress(self) -> TransferProgress:
        return TransferProgress(
            piece_count=self.release.piece_count,
            piece_bytes=1,
            total_bytes=self.release.piece_count,
            have=self.have,
            peers_have=reduce(or_, (other.have for other in self.connections.values()), NO_PIECES),
            on_disk=NO_PIECES,
            spread=PieceSet.held_by(
                max(1, (len(self.connections) + 1) // 2), (other.have for other in self.connections.values())
            ),
            peers=tuple(map(_peer_id, self.connections)),
            bytes_lan=self.bytes_lan,
            is_complete=self.is_complete,
        )

    def _strike(self, device: str, reason: Reason, now: float) -> None:
        self._health[device] = struck(self._health.get(device), reason, now=now)

    def _show(self, wanted: AbstractSet[str], now: float) -> None:
        links = dict.fromkeys(self.board.peers.value, _NOT_NEEDED) | dict.fromkeys(wanted, _DIALLED)
        for device, health in self._health.items():
            if is_banned(health, now=now):
                links[device] = Link(is_connected=False, reason=health.reason)
        self.board.links.set({self.release.info_hash: links})


_DIALLED = Link(is_connected=False)
_NOT_NEEDED = Link(is_connected=False, reason=Reason.PEER_NOT_NEEDED)
_peer_id = cache(peer_id_of)
