# SPDX-License-Identifier: Apache-2.0
"""The range requests of one torrent that are under way: how many, how long, and what becomes of their pieces."""

from collections.abc import Callable
from contextlib import aclosing

import trio

from p2pd.decisions.request_window import LOOK_SECONDS, MOST_REQUESTS, RequestWindow, is_short
from p2pd.decisions.stripes import PieceRun
from p2pd.host.backoff import restart_delay
from p2pd.host.telemetry import log
from p2pd.piece_set import NO_PIECES, PieceSet
from p2pd.ports import Origin, OriginFailure, Transfer, TransferProgress
from p2pd.services.origin_sharing import OriginSharing
from signing.manifest import Severity
from signing.reasons import Reason

FIRST_RUN_BYTES = 2**19  # of one request, before the origin's pace is known
LONGEST_RUN_BYTES = 8 * 2**20
LEAD_SECONDS = 0.1  # before one request ends the next begins, so that the link is never idle between them
RUN_SECONDS = 1.0  # one request is to take: long against its round trip, short enough to lose or hand over

_log = log("origin_leg")


class OriginLeg:
    """`on_bytes` hears of all payload bytes, `on_piece` of pieces that are here now and the progress before them.

    `is_missing` says whether a piece is still worth its bytes.
    """

    def __init__(
        self,
        sha256: str,
        transfer: Transfer,
        origin: Origin,
        *,
        on_bytes: Callable[[str, int], None],
        on_piece: Callable[[int, TransferProgress], None],
        is_missing: Callable[[int], bool],
        sharing: OriginSharing,
        severity: Severity,
        round_trip: Callable[[], float | None],
    ) -> None:
        self._sha256 = sha256
        self._transfer = transfer
        self._origin = origin
        self._on_bytes = on_bytes
        self._on_piece = on_piece
        self._is_missing = is_missing
        self._round_trip = round_trip
        self._requests = 0
        self._ending = 0  # of those, that will be over in a moment
        self._under_way = NO_PIECES
        self._share = sharing.join(severity, on_room=self._stir)
        self._window = RequestWindow(limit=1 if is_short(round_trip()) else sharing.most_requests)
        self._bytes = 0  # since `_full_since`
        self._full_since: float | None = None  # as many requests as allowed were under way
        self._failures = 0
        self._partial: dict[int, bytes] = {}  # the beginnings of pieces whose requests were cut off
        self._news = trio.Event()
        self.failure: Reason | None = None
        self.again_at = trio.current_time()  # when the origin may be asked again

    @property
    def has_room(self) -> bool:
        """Whether one more request may begin; asking for it says that it is wanted."""
        if self._requests - self._ending >= self._window.limit or trio.current_time() < self.again_at:
            return False
        return self._share.may_begin(self._window.limit)

    @property
    def is_busy(self) -> bool:
        """Whether any request is under way."""
        return self._requests > 0

    @property
    def is_failing(self) -> bool:
        """Whether the last answer was a failure, and the next one is being waited for."""
        return self.failure is not None and (self.is_busy or trio.current_time() < self.again_at)

    @property
    def under_way(self) -> PieceSet:
        """The pieces that requests are to bring."""
        return self._under_way

    def forgive(self) -> None:
        """What failed before says nothing any more: ask again at once."""
        self._failures, self.again_at = 0, trio.current_time()

    @property
    def limit(self) -> int:
        """How many requests may be under way."""
        return self._window.limit

    def stand_by(self, *, is_fetched: bool) -> None:
        """There is nothing to begin here now; `is_fetched`: but the site is bringing pieces over the same link."""
        self._share.want(wants=is_fetched)

    def note_received(self, count: int) -> None:
        """So many bytes have come from peers."""
        self._share.charge(count)

    @property
    def is_outranked(self) -> bool:
        """Whether the site fetches something more severe, so that it says nothing if this does not move."""
        return self._share.is_outranked

    def close(self) -> None:
        """There will be no more requests."""
        self._share.leave()

    def _stir(self) -> None:
        self._news.set()

    async def changed(self) -> None:
        """Return once a request has ended, or may begin after all, since the last return."""
        await self._news.wait()
        self._news = trio.Event()

    def run_pieces(self, progress: TransferProgress) -> int:
        """How many pieces the next request asks for at most."""
        pace = self._window.rate / self._window.limit * RUN_SECONDS or FIRST_RUN_BYTES
        return max(1, int(min(pace, LONGEST_RUN_BYTES)) // progress.piece_bytes)

    def look(self, now: float) -> None:
        """Adapt the number of requests to what they bring; to be called after requests have ended and begun."""
        if self._requests - self._ending < self._window.limit:
            self._full_since = None
        elif self._full_since is None:
            self._full_since, self._bytes = now, 0
        elif now >= self._full_since + LOOK_SECONDS:
            self._window = self._window.after(
                self._bytes / (now - self._full_since), now=now, round_trip=self._round_trip()
            )
            self._full_since = None

    def begin(self, run: PieceRun) -> None:
        """Count a request that `bring` is about to make."""
        self._requests += 1
        self._under_way |= run.pieces
        self._share.begin()

    async def bring(self, run: PieceRun, progress: TransferProgress) -> None:
        """Make one request that was begun, and hand its pieces over as they come."""
        ending = _Ending(self._begin_ending)
        try:
            await self._request(run, progress, ending)
        except OriginFailure as failure:
            self.failure = failure.reason
            if trio.current_time() >= self.again_at:  # requests that fail together are one failure
                self._failures += 1
                self.again_at = trio.current_time() + restart_delay(self._failures)
            _log.warning("the origin failed", reason=failure.reason, why=str(failure))
        else:
            self._failures, self.failure = 0, None
        finally:
            self._requests -= 1
            self._under_way -= run.pieces
            if ending.has_begun:
                self._ending -= 1
            else:
                self._share.end()
            self._news.set()

    def _begin_ending(self) -> None:
        self._ending += 1
        self._share.end()
        self._news.set()

    async def _request(self, run: PieceRun, progress: TransferProgress, ending: "_Ending") -> None:
        piece, end = run.first, run.first + run.count
        buffer = bytearray(self._partial.pop(piece, b""))
        start = piece * progress.piece_bytes + len(buffer)
        length = min(end * progress.piece_bytes, progress.total_bytes) - start
        try:
            async with aclosing(self._origin.ranges(self._sha256, start, length)) as chunks:
                async for chunk in chunks:
                    self._on_bytes(self._origin.source, len(chunk))
                    self._bytes += len(chunk)
                    self._share.charge(len(chunk))
                    ending.note(len(chunk), length)
                    buffer += chunk
                    while piece < end and len(buffer) >= (size := _piece_size(piece, progress)):
                        data = bytes(memoryview(buffer)[:size])
                        del buffer[:size]
                        piece += 1  # first: what is left of the buffer is the next piece's, also when this one is wrong
                        await self._hand_over(piece - 1, data)
                        if piece < end and not any(map(self._is_missing, range(piece, end))):
                            return  # somebody else brings the same pieces: leave the rest to them
            if piece < end:
                raise OriginFailure(
                    Reason.ORIGIN_REFUSED, f"the origin sent {len(buffer)} bytes of piece {piece} and stopped"
                )
        finally:
            if buffer and piece < end and len(self._partial) < MOST_REQUESTS:
                self._partial[piece] = bytes(buffer)

    async def _hand_over(self, piece: int, data: bytes) -> None:
        before = self._transfer.progress()
        if not await self._transfer.add_piece(piece, data):
            raise OriginFailure(Reason.ORIGIN_REFUSED, f"piece {piece} from the origin has the wrong hash")
        self._on_piece(piece, before)


class _Ending:
    """Sees when a request is about to end, by the pace of what it has brought; calls `begin` then, once."""

    def __init__(self, begin: Callable[[], None]) -> None:
        self._begin = begin
        self._began = trio.current_time()
        self._received = 0
        self.has_begun = False

    def note(self, count: int, length: int) -> None:
        """So many bytes more have come, of a request for `length` bytes."""
        self._received += count
        elapsed = trio.current_time() - self._began
        if not self.has_begun and (length - self._received) * elapsed <= LEAD_SECONDS * self._received:
            self.has_begun = True
            self._begin()


def _piece_size(piece: int, progress: TransferProgress) -> int:
    return min(progress.piece_bytes, progress.total_bytes - piece * progress.piece_bytes)
