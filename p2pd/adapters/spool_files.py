# SPDX-License-Identifier: Apache-2.0
"""The files of a spool and what is still to be sent of each: known by heart, once the directory has been read.

A file named `0000000000000007.report` holds envelopes 7, 8, …, one a line. Blocking; one user at a time.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from p2pd.host.atomic_file import read_bounded, sync_directory
from p2pd.host.telemetry import log
from signing.bounds import MAX_COUNTER
from signing.envelope import max_envelope_bytes
from signing.errors import BadInput
from signing.report import Report

MAX_NUMBER = MAX_COUNTER // 2  # larger ones are damage
MAX_FILE_BYTES = 4 * 2**20  # a hundred of the largest envelopes take 2.6 MB
_SUFFIX = ".report"
_NAME = re.compile(r"\d{16}" + re.escape(_SUFFIX))

_log = log(__name__)


class SpoolFiles:
    """`len()` is how many envelopes wait. Every method but `open` is for a spool that is open, or opens it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file_of: dict[int, int] = {}  # by number, the first number of its file; ascending
        self._left: dict[int, int] = {}  # by file, how many of it wait
        self._damaged: set[int] = set()  # files with something that cannot be read: kept for whoever looks into it
        self._read_last: tuple[int, list[bytes]] = (0, [])  # one file's lines: what is asked for next is mostly there
        self.is_open = False

    def open(self) -> None:
        """Read the directory, once. Raises OSError."""
        if self.is_open:
            return
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file_of, self._left = {}, {}
        for first in self._files():
            try:
                count = len(read_bounded(self.path(first), MAX_FILE_BYTES).splitlines())
                problem = "" if count else "is empty"
            except BadInput as failure:
                problem = str(failure)
            if problem:
                self.set_aside(self.path(first), problem)
            elif first > self._last():
                self.add(first, count)
            else:  # numbers of the file before: what both hold would be told twice in any case
                self.set_aside(self.path(first), "holds numbers that another file holds")
        self.is_open = True

    def __len__(self) -> int:
        return len(self._file_of)

    def numbers(self) -> list[int]:
        """Of all envelopes that wait, ascending."""
        return list(self._file_of)

    def add(self, first: int, count: int) -> None:
        """A file was written, whose numbers are above all others."""
        self._left[first] = count
        self._file_of.update(dict.fromkeys(range(first, first + count), first))

    def oldest(self, most: int) -> tuple[tuple[int, bytes], ...]:
        """Up to `most` envelopes with their numbers."""
        self.open()
        found: list[tuple[int, bytes]] = []
        for number in self.numbers():
            if len(found) == most:
                break
            data = self.read(number)
            if data is not None:
                found.append((number, data))
        return tuple(found)

    def read(self, number: int) -> bytes | None:
        """One envelope; None when it cannot be read, and then it is given up."""
        first = self._file_of[number]
        try:
            if self._read_last[0] != first:
                self._read_last = first, read_bounded(self.path(first), MAX_FILE_BYTES).splitlines()
            data = self._read_last[1][number - first]
            # What it says, and whether it is signed, is for the coordinator.
            if len(data) <= max_envelope_bytes(Report) and isinstance(json.loads(data), dict):
                return data
            problem = "is no envelope"
        except FileNotFoundError:
            problem = "is gone"
        except IndexError:
            problem = "is shorter than it was"
        except (BadInput, ValueError, RecursionError) as failure:
            problem = str(failure)
        self.give_up(number, problem)
        return None

    def give_up(self, number: int, problem: str) -> None:
        """An envelope is of no use; its file is set aside once nothing in it waits any more."""
        _log.error("unreadable report", sequence=number, why=problem)
        self._damaged.add(self._file_of[number])
        self.discard([number])

    def discard(self, numbers: Iterable[int]) -> None:
        """Forget envelopes, and remove the files of which all is forgotten."""
        self.open()
        removed = False
        for number in numbers:
            first = self._file_of.get(number)
            if first is None:
                continue
            if self._left[first] == 1:
                self._remove(first)
                removed = True
                del self._left[first]
            else:
                self._left[first] -= 1
            del self._file_of[number]
        if removed:
            sync_directory(self._directory)

    def set_aside(self, path: Path, problem: str) -> None:
        """Keep a file that cannot be used under another name."""
        _log.error("unreadable file of the spool set aside", path=str(path), why=problem)
        path.replace(path.with_suffix(".unreadable"))

    def path(self, first: int) -> Path:
        """Of the file whose first number that is."""
        return self._directory / f"{first:016d}{_SUFFIX}"

    def _remove(self, first: int) -> None:
        if self._read_last[0] == first:
            self._read_last = (0, [])
        path = self.path(first)
        if first in self._damaged and path.exists():
            self.set_aside(path, "holds what cannot be read")
        else:
            path.unlink(missing_ok=True)
        self._damaged.discard(first)

    def _last(self) -> int:
        return next(reversed(self._file_of), 0)

    def _files(self) -> list[int]:
        found = []
        for path in self._directory.glob(f"*{_SUFFIX}"):
            first = int(path.name.removesuffix(_SUFFIX)) if _NAME.fullmatch(path.name) else 0
            if 1 <= first <= MAX_NUMBER:
                found.append(first)
            else:
                self.set_aside(path, "is not named after a sequence number")
        return sorted(found)
