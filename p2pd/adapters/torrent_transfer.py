# SPDX-License-Identifier: Apache-2.0
"""One torrent in libtorrent: what its alerts say, told as progress."""

import errno
import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

import libtorrent as lt
import trio

from p2pd.adapters.torrent_peers import NOBODY, Peers, half_of, look_at_peers
from p2pd.adapters.torrent_settings import DH_PARAMETERS
from p2pd.host.torrent_file import TorrentFacts
from p2pd.piece_set import NO_PIECES, PieceSet
from p2pd.ports import Endpoint, Neighbour, PayloadStoreFull, TransferFailed, TransferProgress

SAMPLE_SECONDS = 0.4  # how old the picture of what peers have may be: their news of pieces raise no alert
LOOK_SECONDS = 3.0  # how old the picture of who they are may be, if no connection comes or goes
SAMPLE_LOAD = 20  # looking at the peers may take one part in so many of the time
IN_PLACE_BYTES = 2**20  # a piece up to this size is hashed within a millisecond: less than a thread's wake-up disturbs
PIECE_ATTEMPTS = 8  # blocks of peers may spoil a piece that is handed over, until those peers are banned
CLOSE_SECONDS = 10.0  # to write what is in memory; what takes longer is fetched again, as after a crash
FLUSH_SECONDS = 1.0  # of pieces may be in memory only: libtorrent by itself writes when DISK_QUEUE_BYTES are full

_UNSETTLED = (lt.torrent_status.checking_files, lt.torrent_status.checking_resume_data)
_COUNTERS = lt.torrent_handle.query_accurate_download_counters
_EVERYTHING = _COUNTERS | lt.torrent_handle.query_pieces


class TorrentTransfer:
    """Implements `p2pd.ports.Transfer`. `have` only grows: pieces are checked once, and written by libtorrent alone."""

    def __init__(
        self,
        handle: lt.torrent_handle,
        facts: TorrentFacts,
        may_dial: Callable[[Endpoint], bool],
        make_haste: Callable[[], None],
    ) -> None:
        """`make_haste` is called whenever `is_urgent` comes to be true."""
        self._handle = handle
        self._make_haste = make_haste
        self._facts = facts
        self._may_dial = may_dial
        self._have = NO_PIECES
        self._peers = NOBODY
        self._looked_at = -math.inf
        self._bytes_lan = 0
        self._flushes = 0  # asked for and not done
        self._flushing = NO_PIECES  # what was there when the last was asked for
        self._on_disk = NO_PIECES
        self._flushed_at = -math.inf
        self._is_awaited = False  # somebody waits in `changed`
        self._is_flushing = False  # for the last time, everything being there
        self._is_complete = False
        self._is_leaving = False  # the handle may be gone at any moment now
        self._failure: tuple[type[TransferFailed], str] | None = None
        self._snapshot: TransferProgress | None = None
        self._news = trio.Event()
        self._checked = trio.Event()
        self._paused = trio.Event()
        self._removed = trio.Event()
        self._peers_moved = trio.Event()
        self._must_look = True  # somebody has come or gone
        self._neighbours_moved = trio.Event()
        self._corruptions: Counter[bytes] = Counter()
        self._ignored: frozenset[bytes] = frozenset()
        self._judged: dict[int, trio.Event] = {}  # pieces that are being handed over, until libtorrent has judged them

    @property
    def is_urgent(self) -> bool:
        """Whether somebody waits for the next alert, so that none should be kept back."""
        return bool(self._judged) or self._is_flushing or self._is_leaving or not self._checked.is_set()

    def progress(self) -> TransferProgress:
        """What is there now, as of the last alert, and of the last look at the peers."""
        if self._snapshot is None:
            self._snapshot = TransferProgress(
                piece_count=self._facts.piece_count,
                piece_bytes=self._facts.piece_bytes,
                total_bytes=self._facts.size,
                have=self._have,
                peers_have=self._peers.have,
                spread=self._peers.spread,
                peers=self._peers.ids,
                on_disk=self._on_disk,
                bytes_lan=self._bytes_lan,
                is_complete=self._is_complete,
            )
        return self._snapshot

    async def changed(self) -> None:
        """Return when there is progress since the last return; one task may wait here. Raises TransferFailed."""
        self._is_awaited = True
        self._peers_moved.set()
        try:
            await self._news.wait()
        finally:
            self._is_awaited = False
        self._raise_failure()
        self._news = trio.Event()

    def connect(self, endpoint: Endpoint) -> None:
        """Dial a peer, for some seconds, unless it is connected; and again whenever the connection breaks."""
        if self._may_dial(endpoint):
            # libtorrent gives up a peer after a few failures, and takes a tracker's word that it may work once more.
            self._handle.connect_peer((endpoint.host, endpoint.port), lt.peer_info.tracker, 0)

    def neighbours(self) -> Sequence[Neighbour]:
        """The connected peers, each once, as of the last look at them."""
        return self._peers.neighbours

    async def neighbours_changed(self) -> None:
        """Return when a peer came or went since the last return; one task may wait here."""
        await self._neighbours_moved.wait()
        self._neighbours_moved = trio.Event()

    def corruptions(self) -> Mapping[bytes, int]:
        """How often each peer, by id, was caught sending data with a wrong hash, and cut off for it."""
        return self._corruptions

    def ignore(self, peers: Collection[bytes]) -> None:
        """From now on, what these peers (by id) say that they have does not count in `peers_have`; all others count."""
        self._ignored = frozenset(peers)
        self._must_look = True
        self._peers_moved.set()

    def limit(self, *, upload: int | None, download: int | None) -> None:
        """Bytes per second to and from peers from now on, besides the session's; None: no limit."""
        if not self._is_leaving:
            self._handle.set_upload_limit(upload or 0)  # 0 is none, to libtorrent too
            self._handle.set_download_limit(download or 0)

    async def add_piece(self, index: int, data: bytes) -> bool:
        """Hand over a whole piece from elsewhere; False if its hash is wrong. Raises TransferFailed, IndexError.

        The hash is checked here first: libtorrent would blame peers for a wrong piece to which they gave blocks.
        """
        if len(data) > IN_PLACE_BYTES:
            matches = await trio.to_thread.run_sync(self._facts.piece_matches, index, data)
        else:
            matches = self._facts.piece_matches(index, data)
        if not matches:
            return False
        for _ in range(PIECE_ATTEMPTS):
            self._raise_failure()
            if index in self._have:
                return True
            judged = self._judged.setdefault(index, trio.Event())
            self._make_haste()
            self._handle.add_piece(index, data, lt.add_piece_flags_t.overwrite_existing)
            await judged.wait()
        raise TransferFailed(f"piece {index} was handed over {PIECE_ATTEMPTS} times, and peers spoilt it every time")

    async def checked(self) -> None:
        """Return once the pieces that lie on disk are known. Raises TransferFailed."""
        self._ask(_EVERYTHING)
        await self._checked.wait()
        self._raise_failure()

    async def watch_peers(self) -> None:
        """Keep the picture of the peers fresh while there are any; runs until cancelled.

        Once complete, only for whoever waits for a change: an idle agent must not wake up for nothing.
        """
        while True:
            await self._peers_moved.wait()
            self._peers_moved = trio.Event()
            began = trio.current_time()
            if self._is_complete or self._must_look or self._ignored or began >= self._looked_at + LOOK_SECONDS:
                self._must_look = False
                self._looked_at = began
                self._see(await trio.to_thread.run_sync(look_at_peers, self._handle, self._ignored))
            elif not self._is_leaving:
                self._handle.post_piece_availability()
            took = trio.current_time() - began
            if not self._is_complete:
                self._ask(_COUNTERS)
            if self._peers.connections and (self._is_awaited or not self._is_complete):
                self._peers_moved.set()
            await trio.sleep(max(SAMPLE_SECONDS, min(SAMPLE_LOAD * took, LOOK_SECONDS)))

    def _see(self, peers: Peers) -> None:
        before, self._peers = self._peers, peers
        if peers.ids != before.ids:
            self._neighbours_moved.set()
        if peers[:4] != before[:4]:
            self._tell()
        if peers.is_shaking_hands:  # no alert tells the end of it
            self._must_look = True
            self._peers_moved.set()

    def receive(self, alert: lt.torrent_alert) -> None:
        """Take in one alert about this torrent."""
        match alert:
            case lt.piece_finished_alert():
                self._have |= PieceSet(1 << alert.piece_index)
                self._judge(alert.piece_index)
                self._flush_now_and_then()
                self._tell()
            case lt.hash_failed_alert():
                self._judge(alert.piece_index)
            case lt.piece_availability_alert():
                if not self._must_look:  # nobody has come or gone since
                    counts = alert.piece_availability
                    spread = PieceSet.where(counts, half_of(self._peers.ids))
                    self._see(self._peers._replace(have=PieceSet.where(counts), spread=spread))
            case lt.peer_connect_alert() | lt.peer_disconnected_alert():
                self._must_look = True
                self._peers_moved.set()
            case lt.peer_ban_alert():
                self._corruptions[alert.pid.to_bytes()] += 1
                self._neighbours_moved.set()
            case lt.torrent_checked_alert() | lt.torrent_finished_alert():
                self._ask(_EVERYTHING)
            case lt.cache_flushed_alert():
                self._flushes = max(0, self._flushes - 1)
                if not self._flushes:
                    self._on_disk = self._flushing
                self._is_complete = self._is_flushing and self._flushes == 0 and self._failure is None
                self._tell()
            case lt.file_error_alert():
                self._fail(f"{alert.filename()}: {alert.error.message()}", alert.error.value())
            case lt.torrent_error_alert():
                self._fail(alert.error.message(), alert.error.value())
            case lt.torrent_paused_alert():
                self._paused.set()
            case lt.torrent_removed_alert():
                self._removed.set()

    def receive_status(self, status: lt.torrent_status) -> None:
        """Take in an answer to `post_status`."""
        if self._is_leaving:
            return
        self._have |= PieceSet.where(status.pieces)  # none unless they were asked for
        self._bytes_lan = status.total_payload_download
        self._tell()
        if status.state in _UNSETTLED:
            return
        self._checked.set()
        if status.is_seeding and len(self._have) < self._facts.piece_count:
            self._ask(_EVERYTHING)  # alerts were lost
        elif status.is_seeding and not self._is_flushing:
            # All pieces are there, and maybe in memory only: complete is what is in the file.
            self._is_flushing = True
            self._flush()
            self._make_haste()

    def look_again(self) -> None:
        """Alerts were lost: ask for the whole state, and let waiting tasks look for themselves."""
        if self._is_leaving:  # what was waited for may be among them
            self._paused.set()
            self._removed.set()
            return
        self._ask(_EVERYTHING)
        self._must_look = True
        self._peers_moved.set()
        for index in list(self._judged):
            self._judge(index)
        self._flushes = 0
        if self._is_flushing and not self._is_complete:
            self._flush()

    async def settled(self) -> bool:
        """Stop, and return once what is in memory has been written; False if it has not after CLOSE_SECONDS."""
        self._is_leaving = True
        self._make_haste()
        with trio.move_on_after(CLOSE_SECONDS, shield=True):
            if self._failure is None:
                self._handle.pause()  # libtorrent says "paused" once all blocks are written
                await self._paused.wait()
        return self._paused.is_set()

    async def removed(self) -> bool:
        """Return once libtorrent has let go of the torrent; False if it has not after CLOSE_SECONDS."""
        with trio.move_on_after(CLOSE_SECONDS, shield=True):
            await self._removed.wait()
        return self._removed.is_set()

    def show_certificate(self, certificate: str, key: str) -> None:
        """Show this certificate, as PEM, in all handshakes from now on."""
        if not self._is_leaving:
            self._handle.set_ssl_certificate_buffer(certificate, key, DH_PARAMETERS)

    def deafen(self) -> None:
        """No alert will come any more: wait for none."""
        self._fail("the torrent session has ended", 0)
        self._removed.set()

    def _flush_now_and_then(self) -> None:
        """A kill shall cost what came lately, however slowly it came."""
        if not self._flushes and trio.current_time() >= self._flushed_at + FLUSH_SECONDS and not self._is_leaving:
            self._flush()

    def _flush(self) -> None:
        self._flushes += 1
        self._flushing = self._have
        self._flushed_at = trio.current_time()
        self._handle.flush_cache()

    def _ask(self, what: int) -> None:
        if not self._is_leaving:
            self._handle.post_status(what)

    def _fail(self, problem: str, code: int) -> None:
        if self._failure is None:
            self._failure = (PayloadStoreFull if code == errno.ENOSPC else TransferFailed, problem)
        for index in list(self._judged):
            self._judge(index)
        self._checked.set()
        self._paused.set()
        self._tell()

    def _judge(self, index: int) -> None:
        event = self._judged.pop(index, None)
        if event is not None:
            event.set()

    def _tell(self) -> None:
        self._snapshot = None
        self._news.set()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            kind, problem = self._failure
            raise kind(problem)
