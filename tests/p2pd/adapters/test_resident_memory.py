# SPDX-License-Identifier: Apache-2.0
"""Memory that is given back: which mappings may go, and that the process lives on."""

import gc
import ssl
import sys
import weakref
from pathlib import Path

import libtorrent as lt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from p2pd.adapters.resident_memory import clean_mappings, give_back_memory, unwritable_segments

CLEAN = "Anonymous:             0 kB\nSwap:                  0 kB\nLocked:                0 kB\n"
LIBRARY = "fe:00 11                         /usr/lib/lib.so\n"
SMAPS = (
    f"7f0000000000-7f0000003000 r--p 00000000 {LIBRARY}Rss:                   8 kB\n{CLEAN}"
    f"7f0000003000-7f0000005000 r-xp 00003000 {LIBRARY}{CLEAN}"
    f"7f0000005000-7f0000006000 r--p 00005000 {LIBRARY}{CLEAN.replace('Anonymous:             0', 'Anonymous:             4')}"
    f"7f0000006000-7f0000007000 rw-p 00006000 {LIBRARY}{CLEAN}"
    f"7f0000007000-7f0000008000 r--p 00000000 00:00 0\n{CLEAN}"
    f"7f0000008000-7f0000009000 r--s 00000000 fe:00 12                         /var/cache/shared\n{CLEAN}"
    f"7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0                          [vdso]\n{CLEAN}"
)
EVERYWHERE = ((0, 2**64),)


def test_only_clean_pages_of_files_go() -> None:
    found = list(clean_mappings(SMAPS, EVERYWHERE))
    assert found == [(0x7F0000000000, 0x7F0000003000), (0x7F0000003000, 0x7F0000005000)]


def test_only_what_the_loader_never_writes_goes() -> None:
    """A library that another thread is loading, relocated data, and mapped files are none of it."""
    text = (0x7F0000003000, 0x7F0000005000)
    assert list(clean_mappings(SMAPS, (text,))) == [text]
    assert list(clean_mappings(SMAPS, ((0x7F0000003000, 0x7F0000004000),))) == []
    assert list(clean_mappings(SMAPS, ())) == []


@pytest.mark.parametrize("field", ["Anonymous:", "Swap:", "Locked:"])
def test_own_pages_stay_where_they_are_and_so_does_what_is_locked(field: str) -> None:
    """Own pages that were swapped out are not anonymous any more, and would be lost with the mapping."""
    assert list(clean_mappings(SMAPS.replace(f"{field:<19}    0 kB", f"{field:<19}   12 kB"), EVERYWHERE)) == []


@pytest.mark.parametrize("field", ["Anonymous:", "Swap:", "Locked:"])
def test_a_kernel_that_does_not_tell_of_own_pages_costs_nothing(field: str) -> None:
    assert list(clean_mappings(SMAPS.replace(field, "Other:"), EVERYWHERE)) == []


@pytest.mark.skipif(sys.platform != "linux", reason="asks the loader")
def test_the_loader_tells_of_text_and_of_nothing_that_is_writable() -> None:
    segments = unwritable_segments()
    mappings = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    spans = {permissions: set[tuple[int, int]]() for _, permissions, *_ in mappings}
    for addresses, permissions, *_ in mappings:
        start, end = (int(address, 16) for address in addresses.split("-"))
        spans[permissions].add((start, end))
    assert segments
    assert set(segments) & spans["r-xp"]
    for start, end in segments:
        assert not any(start < z and a < end for a, z in spans["rw-p"])


def test_garbage_goes() -> None:
    class Cycle:
        def __init__(self) -> None:
            self.me = self

    gone = weakref.ref(Cycle())
    give_back_memory()
    assert gone() is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_libraries_work_after_their_pages_went() -> None:
    """Less of files is resident right afterwards, and what is needed comes back."""
    before = _resident_file_kilobytes()
    give_back_memory()
    assert _resident_file_kilobytes() < before
    assert generate_private_key(SECP256R1()).public_key().curve.key_size == 256
    assert ssl.create_default_context().protocol
    assert lt.bencode(1) == b"i1e"
    assert gc.isenabled()


def _resident_file_kilobytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("RssFile:")).split()[1])
