# SPDX-License-Identifier: Apache-2.0
"""Gives memory back that a process has no use for at the moment.

Three kinds: garbage in cycles; free memory that the C library keeps for itself; and pages of programs and libraries
that were used at the start or during a transfer only. The last are clean copies of files: whoever needs one again finds
it in the page cache, at the price of a page fault. The kernel would take them by itself, but only once memory is short.

Linux with glibc; elsewhere only the garbage goes.
"""

import ctypes
import gc
import mmap
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

HEAPS = 2  # one for the interpreter, one for libtorrent's threads and the rest
_M_ARENA_MAX = -8  # glibc's malloc.h
_MAPS = Path("/proc/self/smaps")
_HEADER = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ (\d+)")
_OWN_PAGES = "Anonymous:"


def keep_few_heaps() -> None:
    """Before threads start: glibc would give each of them a heap of its own, and what is free in one helps no other."""
    with suppress(AttributeError):  # not glibc
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, HEAPS)


def give_back_memory() -> None:
    """Takes some 50 ms, mostly without the interpreter's lock."""
    gc.collect()
    libc = ctypes.CDLL(None)
    with suppress(AttributeError):  # not glibc
        libc.malloc_trim(0)
    with suppress(AttributeError, OSError):  # not Linux
        madvise = libc.madvise
        madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        for start, length in clean_mappings(_MAPS.read_text()):
            madvise(start, length, mmap.MADV_DONTNEED)  # refusing is harmless


def clean_mappings(smaps: str) -> Iterator[tuple[int, int]]:
    """Start and length of each mapping of a file that is never written here, and of which no page is our own copy.

    `smaps` is what Linux tells of a process. Relocated data is read-only too, and differs from the file: its pages
    count as anonymous, and dropping those would be fatal.
    """
    mapping: tuple[int, int] | None = None
    for line in smaps.splitlines():
        if header := _HEADER.match(line):
            start, end, permissions, inode = header.groups()
            is_read_only_file = permissions in ("r-xp", "r--p") and inode != "0"
            mapping = (int(start, 16), int(end, 16) - int(start, 16)) if is_read_only_file else None
        elif mapping is not None and line.startswith(_OWN_PAGES) and line.split()[1] == "0":
            yield mapping
