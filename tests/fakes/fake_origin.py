# SPDX-License-Identifier: Apache-2.0
"""`p2pd.ports.Origin` in memory: payload files at a virtual rate, from a server that can be away, silent, or lie."""

import math
from collections import Counter
from collections.abc import AsyncGenerator
from enum import Enum, auto
from functools import partial
from pathlib import Path
from typing import Literal

import trio

from p2pd.adapters.http_chunks import CHUNK_BYTES
from p2pd.adapters.http_lines import SILENCE_SECONDS
from p2pd.host.latest import first_of
from p2pd.ports import OriginFailure
from signing.reasons import Reason
from tests.fakes.fake_uplink import FakeUplink


class Fault(Enum):
    """What can be wrong with an origin that answers."""

    REFUSES = auto()  # an error instead of bytes
    SILENT = auto()  # accepts the request and never sends a byte
    TRUNCATES = auto()  # ends early, as if that were all
    LIES = auto()  # as many bytes as asked for, but others


class FakeOrigin:
    """The server. `sent` counts payload bytes by who got them; other downloads slow one down on a narrow link only."""

    def __init__(self, payloads: Path, uplink: FakeUplink, *, bytes_per_second: float = 4e6) -> None:
        self.uplink = uplink
        self.bytes_per_second = bytes_per_second  # of each request
        self.link_bytes_per_second = math.inf  # of all requests together, which share it equally
        self.under_way = 0
        self.fault: Fault | None = None
        self.hanging: set[str] = set()  # clients that take nothing any more, without hanging up
        self.sent: Counter[str] = Counter()
        self._payloads = payloads

    @property
    def rate(self) -> float:
        """Bytes per second that one of the requests under way gets now."""
        return min(self.bytes_per_second, self.link_bytes_per_second / max(1, self.under_way))

    def line(self, client: str) -> "FakeOriginLine":
        """The origin as `client` sees it."""
        return FakeOriginLine(self, client)

    def read(self, sha256: str, start: int, length: int) -> bytes:
        """What it answers, fault included. Raises OriginFailure."""
        path = self._payloads / sha256
        if self.fault is Fault.REFUSES or not path.is_file():
            raise OriginFailure(Reason.ORIGIN_REFUSED, f"{path.name}: HTTP 404 to a range request")
        data = path.read_bytes()[start : start + length]
        if self.fault is Fault.TRUNCATES:
            return data[: len(data) // 2]
        if self.fault is Fault.LIES:
            return bytes(byte ^ 1 for byte in data)
        return data


class FakeOriginLine:
    """Implements `p2pd.ports.Origin` for one client."""

    source: Literal["origin", "web"] = "origin"

    def __init__(self, origin: FakeOrigin, client: str) -> None:
        self._origin = origin
        self._client = client

    async def ranges(self, sha256: str, start: int, length: int) -> AsyncGenerator[bytes, None]:
        """See `Origin`."""
        await trio.lowlevel.checkpoint()
        self._require_uplink()
        data = self._origin.read(sha256, start, length)
        if self._origin.fault is Fault.SILENT:
            await self._pass(SILENCE_SECONDS)
            raise OriginFailure(Reason.ORIGIN_UNREACHABLE, f"no byte within {SILENCE_SECONDS:g} s")
        self._origin.under_way += 1
        try:
            for offset in range(0, len(data), CHUNK_BYTES):
                chunk = data[offset : offset + CHUNK_BYTES]
                await self._pass(len(chunk) / self._origin.rate)
                self._origin.sent[self._client] += len(chunk)
                yield chunk
        finally:
            self._origin.under_way -= 1

    async def _pass(self, seconds: float) -> None:
        await first_of(partial(self._origin.uplink.lost, self._client), seconds=seconds)
        if self._client in self._origin.hanging:
            await trio.sleep_forever()
        self._require_uplink()

    def _require_uplink(self) -> None:
        if not self._origin.uplink.reaches(self._client):
            raise OriginFailure(Reason.ORIGIN_UNREACHABLE, "the origin does not answer")
