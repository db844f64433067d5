# SPDX-License-Identifier: Apache-2.0
"""What an agent's own log tells of a transfer. Pure parsing, and a reader that takes up where it stopped.

The log is one JSON object a line. A release is `verified` once the agent has read its payload back from the disk,
hashed it, and made that durable in its journal: that is when a race is over for an endpoint.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Verified:
    """An endpoint has the payload, hash-checked on its disk, since `unix` (seconds)."""

    product: str
    version: str
    unix: float


@dataclass(frozen=True, kw_only=True)
class Carried:
    """How the payload came: bytes from neighbours and from the origin, complete at `unix` and not yet hashed."""

    version: str
    unix: float
    bytes_lan: int
    bytes_origin: int


Told = Verified | Carried


def parse_line(line: str) -> Told | None:
    """What a line of the log tells of a transfer, if it does; lines that are no JSON object tell nothing."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    if not isinstance(entry, dict):
        return None
    try:
        return _read(entry)
    except (KeyError, TypeError, ValueError):
        return None


def _read(entry: Mapping[str, Any]) -> Told | None:
    if entry["event"] == "release state" and entry["state"] == "verified":
        return Verified(product=str(entry["product"]), version=str(entry["version"]), unix=_unix(entry["time"]))
    if entry["event"] == "transfer complete":
        return Carried(
            version=str(entry["version"]),
            unix=_unix(entry["time"]),
            bytes_lan=int(entry["bytes_lan"]),
            bytes_origin=int(entry["bytes_origin"]),
        )
    return None


def _unix(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()


@dataclass
class LogReader:
    """Reads what was added to a log since it was last asked; half lines wait for their other half."""

    path: Path
    _offset: int = 0
    _rest: bytes = field(default=b"", repr=False)

    def news(self) -> Iterator[Told]:
        """What the log tells since the last call; nothing if it was not written to. A look costs one `stat`."""
        try:
            if self.path.stat().st_size == self._offset:
                return
            with self.path.open("rb") as log:
                log.seek(self._offset)
                data = log.read()
        except FileNotFoundError:
            return
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            told = parse_line(line.decode(errors="replace"))
            if told is not None:
                yield told
