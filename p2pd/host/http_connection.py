# SPDX-License-Identifier: Apache-2.0
"""One HTTP/1.1 connection that no peer can hold: Hypercorn's protocol between guards of ours.

What Hypercorn 0.18 leaves open, and what closes it:
- sends are shielded without a deadline, so a peer that stops reading holds its task for ever: `GuardedStream`;
- applications go on sending to a peer that has gone, unless they listen all the time: `http_bounds.PeerGone`;
- a request body may trickle for ever, and one that nobody reads jams the connection: `http_bounds.bounded`;
- HTTP/2, by `Upgrade` or by preface, escapes the idle timeout: refused in `Connection.protocol_send`;
- one peer may take all connections: `Connection.serve` counts them by certificate, or else by address;
- whatever a peer provokes inside the protocol would leave the task and end the daemon: `Connection.serve`;
- each part of an answer is a TLS record and a turn of the scheduler or two of its own: `Connection.protocol_send`.
"""

import ssl
from collections import Counter
from contextlib import suppress
from typing import Any, cast

import h11
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState, LifespanState

from p2pd.host.http_bounds import REFUSALS, HttpLimits, bounded
from p2pd.host.telemetry import AsgiApp, log

_log = log(__name__)

_RECORD_BYTES = 16_384  # of TLS
_SLICE_BYTES = 131_072
_UNSENT_BYTES = (
    2 * _SLICE_BYTES
)  # the kernel asks for more whenever half of it has left; trio has it ask far more often


class GuardedStream(trio.abc.HalfCloseableStream):
    """A TCP stream whose sends must make progress, and that can be cut from outside whatever it is doing."""

    def __init__(self, stream: trio.SocketStream, stalled_seconds: float) -> None:
        self.socket = stream.socket
        self.is_broken = False  # a send failed: nothing reaches the peer any more
        self._stream = stream
        self._stalled_seconds = stalled_seconds
        self._sending = trio.Lock()  # Hypercorn ends the stream in one task while an answer leaves in another
        if hasattr(trio.socket, "TCP_NOTSENT_LOWAT"):  # as trio asks
            with suppress(OSError):
                stream.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`; raise BrokenResourceError when nothing more leaves in time."""
        await _take(self._sending)
        try:
            await self._send_slices(memoryview(data))
        except BaseException:
            self.is_broken = True
            raise
        finally:
            self._sending.release()

    async def _send_slices(self, data: memoryview) -> None:
        with data as view, trio.CancelScope() as patience:
            for start in range(0, len(view), _SLICE_BYTES):
                patience.deadline = trio.current_time() + self._stalled_seconds
                await self._stream.send_all(view[start : start + _SLICE_BYTES])
        if patience.cancelled_caught:
            REFUSALS.labels(cause="stalled").inc()
            self.cut()
            raise trio.BrokenResourceError("the peer stopped reading")

    async def wait_send_all_might_not_block(self) -> None:
        """As the stream beneath."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """As the stream beneath."""
        return await self._stream.receive_some(max_bytes)

    async def send_eof(self) -> None:
        """As the stream beneath, once what is being sent has left."""
        async with self._sending:
            await self._stream.send_eof()

    async def aclose(self) -> None:
        """As the stream beneath."""
        await self._stream.aclose()

    def cut(self) -> None:
        """Close the socket now: whoever waits on it, shielded or not, gets ClosedResourceError."""
        self.socket.close()


async def _take(lock: trio.Lock) -> None:
    """Take `lock`, which is nearly always free: that costs no turn of the scheduler then."""
    try:
        lock.acquire_nowait()
    except trio.WouldBlock:
        await lock.acquire()


class _HttpTwoRefused(Exception):
    """The peer insists on HTTP/2."""


class Connection(TCPServer):
    """One accepted connection, from its handshake to its end."""

    def __init__(
        self,
        app: AsgiApp,
        stream: trio.SocketStream,
        *,
        tls: ssl.SSLContext | None,
        limits: HttpLimits,
        served: Counter[str],
        config: Config,
        context: WorkerContext,
    ) -> None:
        """`served` counts the connections of one listener by peer, once their handshakes are done."""
        self._guarded = GuardedStream(stream, limits.stalled_seconds)
        self._limits = limits
        self._served = served
        self._peer = ""
        self._head = b""  # of an answer, until its body begins
        self._is_head_next = False
        self._scope = trio.CancelScope()
        self._tls_stream = (
            None if tls is None else trio.SSLStream(self._guarded, tls, server_side=True, https_compatible=True)
        )
        super().__init__(
            ASGIWrapper(cast("Any", bounded(app, limits, self))),  # Hypercorn's own types differ
            config,
            context,
            ConnectionState(LifespanState({})),
            cast("Any", self._tls_stream or self._guarded),  # annotated as TLS over TCP, used as either
        )

    async def serve(self) -> None:
        """Serve requests until either side is done; whatever a peer provokes ends here."""
        with self._scope:
            try:
                if self._tls_stream is None or await self._shake_hands(self._tls_stream):
                    await self._run_if_there_is_room()
            except* _HttpTwoRefused:
                REFUSALS.labels(cause="http2").inc()
            except* Exception as group:
                REFUSALS.labels(cause="protocol").inc()
                _log.warning("connection failed", problem=repr(group.exceptions[0]))
                _log.debug("connection failed here", exc_info=True)

    def hang_up(self) -> None:
        """End the connection now."""
        self._scope.cancel()
        self._guarded.cut()  # a send is shielded, and does not hear the scope

    @property
    def peer(self) -> str:
        """As `http_bounds.Line`."""
        return self._peer

    @property
    def is_broken(self) -> bool:
        """As `http_bounds.Line`."""
        return self._guarded.is_broken

    async def protocol_send(self, event: Event) -> None:
        """As Hypercorn's, over HTTP/1.1 only; the head of an answer leaves with the beginning of its body."""
        protocol = self.protocol.protocol
        if not isinstance(protocol, H11Protocol):
            raise _HttpTwoRefused
        if not isinstance(event, RawData):
            if self._head:
                await self._send(b"")
            self._is_head_next = isinstance(event, Updated)
            await super().protocol_send(event)
        elif self._is_head_next and protocol.connection.our_state is h11.SEND_BODY:  # it is no "100 Continue"
            self._is_head_next = False
            self._head = event.data
        else:
            await self._send(event.data)

    async def _send(self, data: bytes) -> None:
        head, self._head = self._head, b""
        parts = [head + data] if len(data) <= _RECORD_BYTES else [head, data]
        await _take(self.send_lock)
        try:
            with trio.CancelScope(shield=True):  # half an answer is none; `GuardedStream` sees to an end
                for part in filter(None, parts):
                    await self.stream.send_all(part)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await self.protocol.handle(Closed())
        finally:
            self.send_lock.release()

    async def _read_data(self) -> None:
        """As Hypercorn's, but the idle timer ends with the peer; else the socket stays until the timer runs out."""
        await super()._read_data()
        await self.idle_task.stop()

    async def _run_if_there_is_room(self) -> None:
        self._peer = self._name_of_peer()
        most = self._limits.max_connections_each
        if most is not None and self._served[self._peer] >= most:
            REFUSALS.labels(cause="connections_each").inc()
            return
        self._served[self._peer] += 1
        try:
            await self.run()
        finally:
            self._served[self._peer] -= 1
            if not self._served[self._peer]:
                del self._served[self._peer]  # so that it does not grow with all who ever came

    def _name_of_peer(self) -> str:
        certificate = None if self._tls_stream is None else self._tls_stream.getpeercert()
        if certificate:
            return repr(certificate["subject"])
        try:
            return str(self._guarded.socket.getpeername()[0])
        except OSError:  # it has gone already
            return ""

    async def _shake_hands(self, stream: trio.SSLStream[GuardedStream]) -> bool:
        try:
            with trio.fail_after(self._limits.handshake_seconds):
                await stream.do_handshake()
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError) as problem:
            REFUSALS.labels(cause="handshake").inc()
            _log.debug("TLS handshake failed", problem=str(problem.__cause__ or problem))
            return False
        return True
