# SPDX-License-Identifier: Apache-2.0
"""Gives memory back that a process has no use for at the moment.

Three kinds: garbage in cycles; free memory that the C library keeps for itself; and pages of programs and libraries
that were used at the start or during a transfer only. The last are clean copies of files: whoever needs one again finds
it in the page cache, at the price of a page fault. The kernel would take them by itself, but only once memory is short.

What goes is what may never be written: segments that the loader maps without write permission. Relocated data ends up
read-only, too, but differs from its file, and lies in segments that are writable for the loader. Of an object that is
still being loaded nothing goes, since the loader does not list it yet; what it lists stays, as Python unloads nothing.

Linux with glibc; elsewhere only the garbage goes.
"""

import ctypes
import gc
import mmap
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

HEAPS = 4  # with two, the threads that move pieces wait for each other: a tenth more CPU in a transfer
_M_ARENA_MAX = -8  # glibc's malloc.h
_MAPS = Path("/proc/self/smaps")
_HEADER = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ (\d+)")
_NONE_OF = frozenset(("Anonymous:", "Swap:", "Locked:"))  # own pages, in memory and swapped out; and what must stay
_PT_LOAD, _PF_W = 1, 2  # elf.h

Span = tuple[int, int]
"""First address, and the one after the last."""


class _ProgramHeader(ctypes.Structure):
    _fields_ = (  # Elf64_Phdr
        ("p_type", ctypes.c_uint32),
        ("p_flags", ctypes.c_uint32),
        ("p_offset", ctypes.c_uint64),
        ("p_vaddr", ctypes.c_uint64),
        ("p_paddr", ctypes.c_uint64),
        ("p_filesz", ctypes.c_uint64),
        ("p_memsz", ctypes.c_uint64),
        ("p_align", ctypes.c_uint64),
    )


class _LoadedObject(ctypes.Structure):
    _fields_ = (  # the beginning of link.h's dl_phdr_info
        ("addr", ctypes.c_size_t),
        ("name", ctypes.c_char_p),
        ("headers", ctypes.POINTER(_ProgramHeader)),
        ("count", ctypes.c_uint16),
    )


_Visit = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_LoadedObject), ctypes.c_size_t, ctypes.c_void_p)


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
        never_written = unwritable_segments()  # before the look at the mappings, so that those are whole
        for start, end in clean_mappings(_MAPS.read_text(), never_written):
            madvise(start, end - start, mmap.MADV_DONTNEED)  # refusing is harmless


def unwritable_segments() -> tuple[Span, ...]:
    """Where programs and libraries lie that are wholly loaded, without what the loader writes to. Whole pages.

    Nothing on machines of 32 bits. Raises AttributeError where the loader cannot be asked.
    """
    if ctypes.sizeof(ctypes.c_void_p) != ctypes.sizeof(ctypes.c_uint64):
        return ()
    found: list[Span] = []

    def visit(loaded: "ctypes._Pointer[_LoadedObject]", _size: int, _data: int | None) -> int:
        about = loaded.contents
        for header in about.headers[: about.count]:
            if header.p_type == _PT_LOAD and not header.p_flags & _PF_W:
                start = about.addr + header.p_vaddr
                end = start + header.p_memsz
                found.append((start - start % mmap.PAGESIZE, end + -end % mmap.PAGESIZE))
        return 0

    ctypes.CDLL(None).dl_iterate_phdr(_Visit(visit), None)
    return tuple(found)


def clean_mappings(smaps: str, never_written: Sequence[Span]) -> Iterator[Span]:
    """Each mapping of a file that lies within one of `never_written`, and has no page of our own, nor a locked one.

    `smaps` is what Linux tells of a process. Own pages that are swapped out do not count as anonymous, but are lost as
    surely; a kernel that does not tell of one of these costs nothing.
    """
    span: Span | None = None
    clean: set[str] = set()
    for line in smaps.splitlines():
        if header := _HEADER.match(line):
            start, end, permissions, inode = int(header[1], 16), int(header[2], 16), header[3], header[4]
            is_file = permissions in ("r-xp", "r--p") and inode != "0"
            span = (start, end) if is_file and any(a <= start and end <= z for a, z in never_written) else None
            clean.clear()
        elif span is not None:
            name, *values = line.split()
            if name in _NONE_OF and values[:1] == ["0"]:
                clean.add(name)
                if clean == _NONE_OF:
                    yield span
