# SPDX-License-Identifier: Apache-2.0
"""Signed reports on disk until the coordinator has taken them: one file a report, named by its sequence number.

The next sequence number is written before the report that uses it, so that a number is never used twice, not even
when the report itself was lost to a power cut: the coordinator would take the second for a replay.
"""

from collections.abc import Callable
from pathlib import Path

import trio

from p2pd.host.atomic_file import read_bounded, sync_directory, write_atomically
from p2pd.host.telemetry import log
from p2pd.ports_control import RunSync
from signing.devices import DeviceKey
from signing.envelope import max_envelope_bytes, seal
from signing.report import Report

MAX_SPOOLED = 10_000  # about 10 MB; an endpoint makes a dozen reports for a patch
_SUFFIX = ".report"
_NEXT = "next-sequence"

_log = log(__name__)


class ReportSpool:
    """Implements `p2pd.ports_control.Spool` in a directory that only the daemon writes."""

    def __init__(self, directory: Path, key: DeviceKey, run_sync: RunSync) -> None:
        self._directory = directory
        self._key = key
        self._run_sync = run_sync
        self._numbering = trio.Lock()

    async def append(self, report: Callable[[int], Report]) -> None:
        """Number, sign and store a report; it is durable when this returns."""
        async with self._numbering:  # several products report at once, from several threads
            await self._run_sync(self._append, report)

    async def oldest(self, most: int) -> tuple[tuple[int, bytes], ...]:
        """Up to `most` envelopes with their sequence numbers, oldest first."""
        envelopes: tuple[tuple[int, bytes], ...] = await self._run_sync(self._oldest, most)
        return envelopes

    async def count(self) -> int:
        """How many envelopes are stored."""
        return len(await self._run_sync(self._sequences))

    async def discard(self, sequence: int) -> None:
        """Forget one envelope; nothing happens when it is gone already."""
        await self._run_sync(self._discard, sequence)

    def _append(self, report: Callable[[int], Report]) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        sequence = self._take_sequence()
        envelope = seal(report(sequence), self._key)
        write_atomically(self._directory / f"{sequence:016d}{_SUFFIX}", envelope)
        spooled = self._sequences()
        for oldest in spooled[: max(0, len(spooled) - MAX_SPOOLED)]:
            _log.error("report dropped: the spool is full", sequence=oldest, most=MAX_SPOOLED)
            self._discard(oldest)

    def _take_sequence(self) -> int:
        path = self._directory / _NEXT
        sequence = int(read_bounded(path, 32)) if path.exists() else 1
        sequence = max([sequence, *(spooled + 1 for spooled in self._sequences()[-1:])])
        write_atomically(path, str(sequence + 1).encode())
        return sequence

    def _oldest(self, most: int) -> tuple[tuple[int, bytes], ...]:
        limit = max_envelope_bytes(Report)
        return tuple(
            (sequence, read_bounded(self._directory / f"{sequence:016d}{_SUFFIX}", limit))
            for sequence in self._sequences()[:most]
        )

    def _discard(self, sequence: int) -> None:
        (self._directory / f"{sequence:016d}{_SUFFIX}").unlink(missing_ok=True)
        sync_directory(self._directory)

    def _sequences(self) -> list[int]:
        if not self._directory.is_dir():
            return []
        return sorted(int(path.name.removesuffix(_SUFFIX)) for path in self._directory.glob(f"*{_SUFFIX}"))
