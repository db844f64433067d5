# SPDX-License-Identifier: Apache-2.0
"""The socket in the wall for deltas: whoever makes a payload out of another one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from signing.manifest import Content
from signing.reasons import Reason


@dataclass(frozen=True, kw_only=True)
class Base:
    """A payload on disk to build upon: as it is, or in the one zstd frame in which it travelled."""

    path: Path
    content: Content  # of the payload, uncompressed
    is_compressed: bool


@dataclass(frozen=True, kw_only=True)
class Rebuild:
    """What is to be done: `base` and the file `delta` are to become `result`, with exactly the bytes of `payload`."""

    base: Base
    delta: Path
    delta_content: Content
    result: Path
    payload: Content


class RebuildFailed(Exception):
    """It cannot be done: `reason` is delta_base_differs or delta_failed. Nothing is left behind."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Rebuilder(Protocol):
    """Applies deltas, within bounds of memory and time."""

    async def rebuild(self, work: Rebuild) -> None:
        """Verify base and delta by their SHA-256, apply, and put the verified result in place, durably.

        A result that is there already is replaced. Raises RebuildFailed, StorageFailed.
        """
