# SPDX-License-Identifier: Apache-2.0
"""Payload bytes by HTTPS range requests, from the coordinator or from any static mirror of it."""

from collections.abc import AsyncGenerator
from typing import Literal

import httpx
import trio

from p2pd.adapters.http_chunks import raw_chunks, words_of
from p2pd.adapters.tcp_window import TcpWindow
from p2pd.ports import OriginFailure, Pacing
from signing.reasons import Reason

SILENCE_SECONDS = 20.0  # between two reads; slower than this is as good as away, and another endpoint takes over
GATHER_BYTES = 65_536
TLS_RECORD_BYTES = 16_384 + 512  # RFC 8446, section 5.2: 256 more than the plain text, and a header
_PARTIAL_CONTENT = 206


class OriginHttps:
    """Implements `p2pd.ports.Origin` for `<url>/payloads/<sha256>`. `client` decides whom TLS believes."""

    def __init__(
        self, client: httpx.AsyncClient, url: str, *, source: Literal["origin", "web"], pacing: Pacing
    ) -> None:
        self._client = client
        self._pacing = pacing
        self._url = url.rstrip("/")
        self.source: Literal["origin", "web"] = source

    async def ranges(self, sha256: str, start: int, length: int) -> AsyncGenerator[bytes, None]:
        """The bytes `start` … `start + length`; an answer of any other length is cut off and refused."""
        url = f"{self._url}/payloads/{sha256}"
        # Compressed answers could unpack to far more than was asked for.
        headers = {"Range": f"bytes={start}-{start + length - 1}", "Accept-Encoding": "identity"}
        received = 0
        try:
            async with self._client.stream("GET", url, headers=headers, timeout=SILENCE_SECONDS) as answer:
                if answer.status_code != _PARTIAL_CONTENT:
                    raise OriginFailure(Reason.ORIGIN_REFUSED, f"{url}: HTTP {answer.status_code} to a range request")
                window = TcpWindow(answer.extensions["network_stream"].get_extra_info("socket"))
                # Larger chunks than come would be read to their end at full speed.
                with self._pacing.paced(window) as passed:
                    async with raw_chunks(answer, chunk_bytes=None) as chunks:
                        window.gather(_worth_waking(length))
                        async for chunk in chunks:
                            received += len(chunk)
                            window.gather(_worth_waking(length - received))
                            if received > length:
                                what = f"more than the {length} bytes asked for"
                                raise OriginFailure(Reason.ORIGIN_REFUSED, f"{url}: {what}")
                            yield chunk
                            await passed(len(chunk))
        except httpx.HTTPError as problem:
            raise OriginFailure(Reason.ORIGIN_UNREACHABLE, f"{url}: {words_of(problem)}") from problem
        except trio.BrokenResourceError as problem:
            raise OriginFailure(Reason.ORIGIN_UNREACHABLE, f"{url}: the connection broke") from problem


def _worth_waking(missing: int) -> int:
    """Bytes that must be there before the next read: each costs the interpreter as much as tens of kilobytes do.

    Up to two TLS records of what is missing may have left the socket, and wait in TLS for their ends.
    """
    return min(GATHER_BYTES, missing - 2 * TLS_RECORD_BYTES)
