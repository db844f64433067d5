# SPDX-License-Identifier: Apache-2.0
"""Connections to one HTTP/1.1 server for long bodies: TLS records are read by the dozen, with one wake-up.

A general HTTP client takes each record of 16 KiB through its loop and its layers, which costs an endpoint more than all
else that it does with those bytes. Here OpenSSL reads from the socket itself until nothing is left; h11 does HTTP.
"""

import select
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar
from urllib.parse import urlsplit

import h11
import trio

READ_BYTES = 262_144
SILENCE_SECONDS = 20.0  # between two reads; slower than this is as good as away, and another endpoint takes over
MOST_IDLE = 8  # connections kept open between requests

_Result = TypeVar("_Result")


class LineBroken(Exception):
    """The server is away, silent, or speaks no HTTP; says what happened."""


class Line:
    """One connection. Waits at most `silence` seconds for anything to move, then it is broken."""

    def __init__(self, connection: socket.socket, silence: float) -> None:
        self.socket = connection
        self.is_used = False  # answered a request before, and may have been closed since
        self._silence = silence
        self._http = h11.Connection(h11.CLIENT)
        self._buffer = bytearray(READ_BYTES)

    async def ask(self, target: str, headers: Iterable[tuple[str, str]]) -> h11.Response:
        """The head of the answer to a GET. Raises LineBroken."""
        request = self._http.send(h11.Request(method="GET", target=target, headers=list(headers)))
        await self._send((request or b"") + (self._http.send(h11.EndOfMessage()) or b""))
        while True:
            event = await self._event()
            if isinstance(event, h11.Response):
                return event
            if not isinstance(event, h11.InformationalResponse):
                raise LineBroken("the server closed the connection")

    async def body(self) -> bytes | None:
        """What there is of the body now; None at its end. Raises LineBroken."""
        event = await self._event()
        return bytes(event.data) if isinstance(event, h11.Data) else None

    def renew(self) -> bool:
        """Whether another request may follow: the answer was read to its end, and nothing came after it."""
        self.is_used = True
        is_over = self._http.our_state is h11.DONE and self._http.their_state is h11.DONE
        if not is_over or self._http.trailing_data[0]:
            return False
        self._http.start_next_cycle()
        return True

    @property
    def is_quiet(self) -> bool:
        """Whether an idle connection is still open, as far as one sees from here."""
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """At once; whoever leaves an answer in its middle has no other way."""
        self.socket.close()

    async def _event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._http.receive_data(await self._receive())
        except h11.RemoteProtocolError as problem:
            raise LineBroken(str(problem)) from problem
        return event

    async def _receive(self) -> bytes:
        """All that has come, up to READ_BYTES, at least one byte; none at the end of the connection."""
        view, count = memoryview(self._buffer), await self._patiently(self._read_once)
        try:
            while 0 < count < READ_BYTES and (more := self.socket.recv_into(view[count:])):
                count += more
        except (ssl.SSLWantReadError, BlockingIOError):
            pass
        except OSError as problem:
            raise LineBroken(_words(problem)) from problem
        return bytes(view[:count])

    def _read_once(self) -> int:
        return self.socket.recv_into(self._buffer)

    async def _send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[await self._patiently(partial(self.socket.send, view)) :]

    async def shake_hands(self) -> None:
        """Begin TLS, if it is to be. Raises LineBroken."""
        if isinstance(self.socket, ssl.SSLSocket):
            await self._patiently(self.socket.do_handshake)

    async def _patiently(self, operation: Callable[[], _Result]) -> _Result:
        """The result, once the socket lets `operation` do something. A checkpoint in any case."""
        with trio.move_on_after(self._silence):
            await trio.lowlevel.checkpoint_if_cancelled()
            has_waited = False
            while True:
                try:
                    result = operation()
                except (ssl.SSLWantReadError, BlockingIOError):  # requests are too short to fill a send buffer
                    await trio.lowlevel.wait_readable(self.socket)
                except ssl.SSLWantWriteError:
                    await trio.lowlevel.wait_writable(self.socket)
                except OSError as problem:
                    raise LineBroken(_words(problem)) from problem
                else:
                    if not has_waited:
                        await trio.lowlevel.cancel_shielded_checkpoint()
                    return result
                has_waited = True
        raise LineBroken(f"nothing came for {self._silence:.0f} s")


class Lines:
    """Connections to the server of `url`. `opened` hears of the socket of each new one.

    `context` decides whom TLS believes; None: for http:// addresses.
    """

    def __init__(
        self,
        url: str,
        *,
        context: ssl.SSLContext | None,
        silence: float = SILENCE_SECONDS,
        opened: Callable[[socket.socket], None] = lambda opened: None,
    ) -> None:
        parts = urlsplit(url)
        self._path = parts.path.rstrip("/")
        self.authority = parts.netloc.rpartition("@")[2].encode("idna").decode()
        self._host = (parts.hostname or "").encode("idna").decode()
        self._port = parts.port or (80 if context is None else 443)
        self._context = context
        self._silence = silence
        self._opened = opened
        self._idle: list[Line] = []

    @asynccontextmanager
    async def answer(self, path: str, headers: Sequence[tuple[str, str]]) -> AsyncIterator[tuple[int, Line]]:
        """The status of the answer to a GET, and the line to read its body from while the block lasts.

        Raises LineBroken. A body that was not read to its end costs the connection.
        """
        line, status = await self._ask(self._path + path, [("Host", self.authority), *headers])
        try:
            yield status, line
        finally:
            if line.renew() and len(self._idle) < MOST_IDLE:
                self._idle.append(line)
            else:
                line.close()

    def close(self) -> None:
        """Close what nobody uses."""
        while self._idle:
            self._idle.pop().close()

    async def _ask(self, target: str, headers: Sequence[tuple[str, str]]) -> tuple[Line, int]:
        while True:
            line = self._idle_line() or await self._dial()
            try:
                return line, (await line.ask(target, headers)).status_code
            except LineBroken:
                line.close()
                if not line.is_used:
                    raise
                # The server hung up while nobody looked; the next may be one that it keeps, or a new one.
            except BaseException:
                line.close()
                raise

    def _idle_line(self) -> Line | None:
        while self._idle:
            line = self._idle.pop()
            if line.is_quiet:
                return line
            line.close()
        return None

    async def _dial(self) -> Line:
        line: Line | None = None
        try:
            with trio.fail_after(self._silence):
                stream = await trio.open_tcp_stream(self._host, self._port)
            plain = socket.socket(fileno=stream.socket.detach())
            plain.setblocking(False)
            line = Line(self._secured(plain), self._silence)
            self._opened(line.socket)
            await line.shake_hands()
        except (OSError, trio.TooSlowError) as problem:
            raise LineBroken(_words(problem)) from problem
        except BaseException:
            if line is not None:
                line.close()
            raise
        return line

    def _secured(self, plain: socket.socket) -> socket.socket:
        if self._context is None:
            return plain
        with plain:  # wrapped, the file descriptor is the other's
            return self._context.wrap_socket(plain, server_hostname=self._host, do_handshake_on_connect=False)


def _words(problem: BaseException) -> str:
    deeper = problem.__cause__
    if isinstance(deeper, BaseExceptionGroup):  # one for each address of the server
        return "; ".join(dict.fromkeys(str(one) for one in deeper.exceptions))
    return str(problem) or type(problem).__name__
