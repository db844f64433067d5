# SPDX-License-Identifier: Apache-2.0
"""Signed reports on disk until the coordinator has taken them: those made at once in one file, an envelope a line.

A file is named by the sequence number of its first envelope; it is never changed, and goes when all of it is taken.
What was taken out of a file that is still there comes back when the daemon starts anew: the coordinator knows repeats.

The next sequence number is written before the reports that use it, so that a number is never used twice, not even
when the reports themselves were lost to a power cut: the coordinator would take the second for a replay. Where the
number is lost, or turns out to be used (the disk was restored from a copy), counting goes on from the time in
milliseconds and a bit of chance: above all earlier numbers without knowing them, different on each clone of a disk,
and far below MAX_COUNTER, which a clock reaches in the year 287,396.

What cannot be read is set aside as `…unreadable` and said; it stops nothing.
"""

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import trio

from p2pd.adapters.spool_files import MAX_NUMBER, SpoolFiles
from p2pd.host.atomic_file import read_bounded, write_atomically
from p2pd.host.group_commit import GroupCommit
from p2pd.host.telemetry import log
from p2pd.ports_control import RunSync, StorageFailed
from signing.devices import DeviceKey
from signing.envelope import peek, seal
from signing.errors import BadInput
from signing.report import Report

MAX_SPOOLED = 10_000  # about 10 MB
MOST_TOGETHER = 100  # reports in a file
CHANCE = 1_000_000  # twenty minutes in milliseconds: two clones rarely hit the same thousand numbers
_NEXT = "next-sequence"

T = TypeVar("T")
MakeReport = Callable[[int], Report]

_log = log(__name__)


class ReportSpool:
    """Implements `p2pd.ports_control.Spool` in a directory that only the daemon writes."""

    def __init__(
        self, directory: Path, key: DeviceKey, run_sync: RunSync, *, read_unix: Callable[[], float] = time.time
    ) -> None:
        self._directory = directory
        self._files = SpoolFiles(directory)
        self._key = key
        self._run_sync = run_sync
        self._read_unix = read_unix
        self._turn = trio.Lock()  # the files and what is known of them have one user at a time
        self._commit = GroupCommit(self._append_together, most=MOST_TOGETHER)

    async def append(self, *reports: MakeReport) -> None:
        """Number, sign and store reports; they are durable when this returns, and not there when this raises.

        At most MOST_TOGETHER at once. What several products append at the same time is written together.
        """
        if len(reports) > MOST_TOGETHER:
            raise ValueError(f"{len(reports)} reports at once, at most {MOST_TOGETHER} go into a file")
        try:
            await self._commit.put(reports)
        except OSError as problem:
            raise StorageFailed(problem) from problem

    async def oldest(self, most: int) -> tuple[tuple[int, bytes], ...]:
        """Up to `most` envelopes with their sequence numbers, oldest first."""
        if self._files.is_open and not len(self._files):  # as it mostly is: no turn in a thread for that
            await trio.lowlevel.checkpoint()
            return ()
        return await self._on_disk(self._files.oldest, most)

    async def count(self) -> int:
        """How many envelopes are stored; once the disk was looked at, known by heart."""
        if not self._files.is_open:
            await self._on_disk(self._files.open)
        return len(self._files)

    async def discard(self, *sequences: int) -> None:
        """Forget envelopes; nothing happens when they are gone already."""
        await self._on_disk(self._files.discard, sequences)

    async def renumber(self, first: int) -> int:
        """Sign the reports from `first` on anew under numbers far above all others; the first of these.

        They keep their order, in which the coordinator believes the last one. Killed or failing in between it leaves
        some of them twice; doing it again mends that.
        """
        return await self._on_disk(self._renumber, first)

    async def _on_disk(self, call: Callable[..., T], *args: Any) -> T:
        try:
            async with self._turn:
                return await self._run_sync(call, *args)
        except OSError as problem:
            raise StorageFailed(problem) from problem

    async def _append_together(self, wishes: Sequence[Sequence[MakeReport]]) -> Sequence[OSError | None]:
        async with self._turn:
            return await self._run_sync(self._append, tuple(wishes))

    def _append(self, wishes: Sequence[Sequence[MakeReport]]) -> list[OSError | None]:
        """All of them, or, when the disk does not take a file, those in the files before."""
        failures: list[OSError | None] = []
        for several in _in_files(wishes):
            try:
                self._store([report for wish in several for report in wish])
            except OSError as problem:
                return failures + [problem] * (len(wishes) - len(failures))
            failures += [None] * len(several)
        try:
            self._drop_oldest()
        except OSError as problem:  # the reports are stored, and the next ones try again
            _log.error("the spool is full and its oldest cannot be dropped", why=str(problem))
        return failures

    def _store(self, reports: Sequence[MakeReport]) -> None:
        self._files.open()
        first = self._next()
        self._keep_next(first + len(reports))
        sealed = [seal(report(sequence), self._key) for sequence, report in enumerate(reports, first)]
        self._write(first, sealed)

    def _write(self, first: int, envelopes: Sequence[bytes]) -> None:
        write_atomically(self._files.path(first), b"\n".join(envelopes))
        self._files.add(first, len(envelopes))

    def _drop_oldest(self) -> None:
        too_many = self._files.numbers()[: max(0, len(self._files) - MAX_SPOOLED)]
        if too_many:
            _log.error("reports dropped: the spool is full", oldest=too_many[0], count=len(too_many), most=MAX_SPOOLED)
            self._files.discard(too_many)

    def _next(self) -> int:
        least = max([1, *(spooled + 1 for spooled in self._files.numbers()[-1:])])
        path = self._directory / _NEXT
        try:
            text = read_bounded(path, 32)
        except FileNotFoundError:
            return least
        except BadInput:
            text = b""
        if text.isdigit() and int(text) <= MAX_NUMBER:
            return max(int(text), least)
        self._files.set_aside(path, "is no number")
        return self._fresh_start(least)

    def _fresh_start(self, least: int) -> int:
        return max(least, int(self._read_unix() * 1_000)) + secrets.randbelow(CHANCE)

    def _keep_next(self, sequence: int) -> None:
        write_atomically(self._directory / _NEXT, str(sequence).encode())

    def _renumber(self, first: int) -> int:
        self._files.open()
        before = [sequence for sequence in self._files.numbers() if sequence >= first]
        # Without those that are there twice, since an earlier attempt was cut short.
        reports = list(dict.fromkeys(report for sequence in before if (report := self._report(sequence)) is not None))
        start = self._fresh_start(self._next())
        self._keep_next(start + len(reports))
        for offset in range(0, len(reports), MOST_TOGETHER):
            part = enumerate(reports[offset : offset + MOST_TOGETHER], start + offset)
            sealed = [seal(replace(report, sequence=sequence), self._key) for sequence, report in part]
            self._write(start + offset, sealed)
        self._files.discard(before)
        return start

    def _report(self, sequence: int) -> Report | None:
        """What a stored envelope says, under any number."""
        data = self._files.read(sequence)
        try:
            return replace(peek(Report, data, where="spool"), sequence=1) if data is not None else None
        except BadInput as problem:
            self._files.give_up(sequence, problem.problem)
            return None


def _in_files(wishes: Sequence[Sequence[MakeReport]]) -> list[list[Sequence[MakeReport]]]:
    """What is written into one file each: whole wishes, so that each is stored or not."""
    files: list[list[Sequence[MakeReport]]] = []
    for wish in wishes:
        if not files or sum(map(len, files[-1])) + len(wish) > MOST_TOGETHER:
            files.append([])
        files[-1].append(wish)
    return files
