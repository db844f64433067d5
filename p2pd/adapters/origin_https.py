# SPDX-License-Identifier: Apache-2.0
"""Payload bytes by HTTPS range requests, from the coordinator or from any static mirror of it."""

from collections.abc import AsyncGenerator
from typing import Literal

from p2pd.adapters.http_lines import LineBroken, Lines
from p2pd.adapters.tcp_window import TcpWindow
from p2pd.ports import OriginFailure, Pacing
from signing.reasons import Reason

GATHER_BYTES = 131_072
TLS_RECORD_BYTES = 16_384 + 512  # RFC 8446, section 5.2: 256 more than the plain text, and a header
_PARTIAL_CONTENT = 206


class OriginHttps:
    """Implements `p2pd.ports.Origin` for `<url>/payloads/<sha256>`, where `<url>` is that of `lines`."""

    def __init__(self, lines: Lines, *, source: Literal["origin", "web"], pacing: Pacing) -> None:
        self._lines = lines
        self._pacing = pacing
        self.source: Literal["origin", "web"] = source

    async def ranges(self, sha256: str, start: int, length: int) -> AsyncGenerator[bytes, None]:
        """The bytes `start` … `start + length`; an answer of any other length is cut off and refused."""
        path = f"/payloads/{sha256}"
        headers = [
            ("Range", f"bytes={start}-{start + length - 1}"),
            ("Accept-Encoding", "identity"),  # compressed answers could unpack to far more than was asked for
        ]
        received = 0
        try:
            async with self._lines.answer(path, headers) as (status, line):
                if status != _PARTIAL_CONTENT:
                    raise self._refused(path, f"HTTP {status} to a range request")
                window = TcpWindow(line.socket)
                with self._pacing.paced(window) as passed:
                    window.gather(_worth_waking(length))
                    while chunk := await line.body():
                        received += len(chunk)
                        window.gather(_worth_waking(length - received))
                        if received > length:
                            raise self._refused(path, f"more than the {length} bytes asked for")
                        yield chunk
                        await passed(len(chunk))
        except LineBroken as problem:
            where = f"{self._lines.authority}{path}"
            raise OriginFailure(Reason.ORIGIN_UNREACHABLE, f"{where}: {problem}") from problem

    def _refused(self, path: str, what: str) -> OriginFailure:
        return OriginFailure(Reason.ORIGIN_REFUSED, f"{self._lines.authority}{path}: {what}")


def _worth_waking(missing: int) -> int:
    """Bytes that must be there before the next read: each costs the interpreter as much as tens of kilobytes do.

    Up to two TLS records of what is missing may have left the socket, and wait in TLS for their ends.
    """
    return min(GATHER_BYTES, missing - 2 * TLS_RECORD_BYTES)
