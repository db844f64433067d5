# SPDX-License-Identifier: Apache-2.0
"""The receive window of one TCP connection: what the kernel measured, and how much it may have in flight.

Linux only (tcp(7)); elsewhere, and once the connection is closed, `look` says that nothing is known, and the limits do
nothing. A clamp alone bounds what is announced beyond the data read so far, not what is kept unread: `squeeze` makes
the receive buffer small too, so that whoever reads slowly receives slowly. A buffer that was set is no longer tuned by
the kernel, until `release` lifts the lock.
"""

import socket
import struct
import sys
from ipaddress import ip_address

import trio

from p2pd.ports import WindowFacts

IS_SUPPORTED = sys.platform == "linux"

_INFO_BYTES = 152  # of `struct tcp_info`, linux/tcp.h; the kernel only ever adds fields at its end
_RECEIVE_RTT, _BYTES_RECEIVED, _LEAST_RTT = 92, 128, 148  # offsets: microseconds, bytes, microseconds
_NO_RTT = (0, 2**32 - 1)  # what the kernel says before the first
_SO_BUF_LOCK = 72  # asm-generic/socket.h since Linux 5.14; not in Python's `socket`
_FALLBACK_CLAMP = 10  # TCP_WINDOW_CLAMP in linux/tcp.h


class TcpWindow:
    """Implements `p2pd.ports.ReceiveWindow`. It never closes the socket, which belongs to the HTTP client."""

    def __init__(self, connection: "socket.socket | trio.socket.SocketType") -> None:
        self._socket = connection
        self._clamp: int | None = None
        self._buffer: int | None = None  # what the receive buffer was before it was squeezed
        self._squeezed_to: int | None = None
        self._is_loopback: bool | None = None

    def look(self) -> WindowFacts | None:
        """What the kernel knows; None when it cannot be asked."""
        if not IS_SUPPORTED:
            return None
        try:
            info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
        except OSError:
            return None
        if len(info) < _INFO_BYTES:
            return None
        (received,) = struct.unpack_from("I", info, _RECEIVE_RTT)
        (count,) = struct.unpack_from("Q", info, _BYTES_RECEIVED)
        (least,) = struct.unpack_from("I", info, _LEAST_RTT)
        return WindowFacts(
            least=None if least in _NO_RTT else least / 1e6,
            round_trip=received / 1e6 or None,
            received=count,
            is_loopback=self._stays_here(),
        )

    def limit(self, window: int) -> None:
        """Let at most `window` bytes be in flight; what was announced before is not taken back."""
        if self._clamp != window or self._read_clamp() != window:  # the kernel raises it with a buffer that it tunes
            self._clamp = window
            self._set(socket.IPPROTO_TCP, getattr(socket, "TCP_WINDOW_CLAMP", _FALLBACK_CLAMP), window)

    def squeeze(self, size: int) -> None:
        """Keep at most about `size` bytes unread."""
        if self._squeezed_to == size or not IS_SUPPORTED:
            return
        try:
            if self._buffer is None:
                self._buffer = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2  # it tells the double
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        except OSError:
            return
        self._squeezed_to = size

    def release(self) -> None:
        """Undo `squeeze`, and let the kernel tune the buffer again."""
        if self._buffer is not None:
            self._set(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffer)
            self._set(socket.SOL_SOCKET, _SO_BUF_LOCK, 0)
            self._buffer = self._squeezed_to = None

    def gather(self, size: int) -> None:
        """Wake nobody before `size` bytes can be read, or the window is nearly full, or the connection ends."""
        if IS_SUPPORTED:
            self._set(socket.SOL_SOCKET, socket.SO_RCVLOWAT, max(1, size))

    def _stays_here(self) -> bool:
        if self._is_loopback is None:
            host = str(self._socket.getsockname()[0]).partition("%")[0]
            self._is_loopback = ip_address(host).is_loopback
        return self._is_loopback

    def _read_clamp(self) -> int | None:
        option = getattr(socket, "TCP_WINDOW_CLAMP", _FALLBACK_CLAMP)
        try:
            return self._socket.getsockopt(socket.IPPROTO_TCP, option) if IS_SUPPORTED else None
        except OSError:
            return None

    def _set(self, level: int, option: int, value: int) -> None:
        if IS_SUPPORTED:
            try:
                self._socket.setsockopt(level, option, value)
            except OSError:  # closed meanwhile, or an option that this kernel does not have
                return
