# SPDX-License-Identifier: Apache-2.0
"""Signed reports on disk until the coordinator has taken them: one file a report, named by its sequence number.

The next sequence number is written before the report that uses it, so that a number is never used twice, not even
when the report itself was lost to a power cut: the coordinator would take the second for a replay. Where the number
is lost, or turns out to be used (the disk was restored from a copy), counting goes on from the time in milliseconds
and a bit of chance: above all earlier numbers without knowing them, different on each clone of a disk, and far below
MAX_COUNTER, which a clock reaches in the year 287,396.

What cannot be read is set aside as `…unreadable` and said; it stops nothing.
"""

import json
import re
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import trio

from p2pd.host.atomic_file import read_bounded, sync_directory, write_atomically
from p2pd.host.telemetry import log
from p2pd.ports_control import RunSync, StorageFailed
from signing.bounds import MAX_COUNTER
from signing.devices import DeviceKey
from signing.envelope import max_envelope_bytes, peek, seal
from signing.errors import BadInput
from signing.report import Report

MAX_SPOOLED = 10_000  # about 10 MB; an endpoint makes a dozen reports for a patch
CHANCE = 1_000_000  # twenty minutes in milliseconds: two clones rarely hit the same thousand numbers
_MOST = MAX_COUNTER // 2  # larger numbers are damage
_SUFFIX = ".report"
_NAME = re.compile(r"\d{16}" + re.escape(_SUFFIX))
_NEXT = "next-sequence"

T = TypeVar("T")

_log = log(__name__)


class ReportSpool:
    """Implements `p2pd.ports_control.Spool` in a directory that only the daemon writes."""

    def __init__(
        self, directory: Path, key: DeviceKey, run_sync: RunSync, *, read_unix: Callable[[], float] = time.time
    ) -> None:
        self._directory = directory
        self._key = key
        self._run_sync = run_sync
        self._read_unix = read_unix
        self._numbering = trio.Lock()

    async def append(self, report: Callable[[int], Report]) -> None:
        """Number, sign and store a report; it is durable when this returns, and not there when this raises."""
        async with self._numbering:  # several products report at once, from several threads
            await self._on_disk(self._append, report)

    async def oldest(self, most: int) -> tuple[tuple[int, bytes], ...]:
        """Up to `most` envelopes with their sequence numbers, oldest first."""
        return await self._on_disk(self._oldest, most)

    async def count(self) -> int:
        """How many envelopes are stored."""
        return len(await self._on_disk(self._sequences))

    async def discard(self, sequence: int) -> None:
        """Forget one envelope; nothing happens when it is gone already."""
        await self._on_disk(self._discard, (sequence,))

    async def renumber(self, first: int) -> int:
        """Sign the reports from `first` on anew under numbers far above all others; the first of these.

        They keep their order, in which the coordinator believes the last one. Killed or failing in between it leaves
        some of them twice; doing it again mends that.
        """
        async with self._numbering:
            return await self._on_disk(self._renumber, first)

    async def _on_disk(self, call: Callable[..., T], *args: Any) -> T:
        try:
            return await self._run_sync(call, *args)
        except OSError as problem:
            raise StorageFailed(problem) from problem

    def _append(self, report: Callable[[int], Report]) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        sequence = self._next()
        self._keep_next(sequence + 1)
        write_atomically(self._path(sequence), seal(report(sequence), self._key))
        try:
            self._drop_oldest()
        except OSError as problem:  # the report is stored, and the next one tries again
            _log.error("the spool is full and its oldest cannot be dropped", why=str(problem))

    def _drop_oldest(self) -> None:
        spooled = self._sequences()
        for oldest in spooled[: max(0, len(spooled) - MAX_SPOOLED)]:
            _log.error("report dropped: the spool is full", sequence=oldest, most=MAX_SPOOLED)
            self._discard((oldest,))

    def _next(self) -> int:
        least = max([1, *(spooled + 1 for spooled in self._sequences()[-1:])])
        path = self._directory / _NEXT
        try:
            text = read_bounded(path, 32)
        except FileNotFoundError:
            return least
        except BadInput:
            text = b""
        if text.isdigit() and int(text) <= _MOST:
            return max(int(text), least)
        self._set_aside(path, "is no number")
        return self._fresh_start(least)

    def _fresh_start(self, least: int) -> int:
        return max(least, int(self._read_unix() * 1_000)) + secrets.randbelow(CHANCE)

    def _keep_next(self, sequence: int) -> None:
        write_atomically(self._directory / _NEXT, str(sequence).encode())

    def _oldest(self, most: int) -> tuple[tuple[int, bytes], ...]:
        found: list[tuple[int, bytes]] = []
        for sequence in self._sequences():
            if len(found) == most:
                break
            data = self._read(sequence)
            if data is not None:
                found.append((sequence, data))
        return tuple(found)

    def _renumber(self, first: int) -> int:
        before = [sequence for sequence in self._sequences() if sequence >= first]
        # Without those that are there twice, since an earlier attempt was cut short.
        reports = list(dict.fromkeys(report for sequence in before if (report := self._report(sequence)) is not None))
        start = self._fresh_start(self._next())
        self._keep_next(start + len(reports))
        for sequence, report in enumerate(reports, start):
            write_atomically(self._path(sequence), seal(replace(report, sequence=sequence), self._key))
        self._discard(before)
        return start

    def _report(self, sequence: int) -> Report | None:
        """What a stored envelope says, under any number."""
        data = self._read(sequence)
        try:
            return replace(peek(Report, data, where="spool"), sequence=1) if data is not None else None
        except BadInput as problem:
            self._set_aside(self._path(sequence), problem.problem)
            return None

    def _read(self, sequence: int) -> bytes | None:
        path = self._path(sequence)
        try:
            data = read_bounded(path, max_envelope_bytes(Report))
            if isinstance(json.loads(data), dict):  # what it says, and whether it is signed, is for the coordinator
                return data
            problem = "is no envelope"
        except FileNotFoundError:
            return None
        except (BadInput, ValueError, RecursionError) as failure:
            problem = str(failure)
        self._set_aside(path, problem)
        return None

    def _discard(self, sequences: Sequence[int]) -> None:
        for sequence in sequences:
            self._path(sequence).unlink(missing_ok=True)
        if self._directory.is_dir():
            sync_directory(self._directory)

    def _sequences(self) -> list[int]:
        found = []
        for path in self._directory.glob(f"*{_SUFFIX}"):
            sequence = int(path.name.removesuffix(_SUFFIX)) if _NAME.fullmatch(path.name) else 0
            if 1 <= sequence <= _MOST:
                found.append(sequence)
            else:
                self._set_aside(path, "is not named after a sequence number")
        return sorted(found)

    def _path(self, sequence: int) -> Path:
        return self._directory / f"{sequence:016d}{_SUFFIX}"

    def _set_aside(self, path: Path, problem: str) -> None:
        _log.error("unreadable file of the spool set aside", path=str(path), why=problem)
        path.replace(path.with_suffix(".unreadable"))
