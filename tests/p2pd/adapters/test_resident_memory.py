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

from p2pd.adapters.resident_memory import clean_mappings, give_back_memory

SMAPS = """\
7f0000000000-7f0000003000 r--p 00000000 fe:00 11                         /usr/lib/lib.so
Rss:                   8 kB
Anonymous:             0 kB
7f0000003000-7f0000005000 r-xp 00003000 fe:00 11                         /usr/lib/lib.so
Anonymous:             0 kB
7f0000005000-7f0000006000 r--p 00005000 fe:00 11                         /usr/lib/lib.so
Anonymous:             4 kB
7f0000006000-7f0000007000 rw-p 00006000 fe:00 11                         /usr/lib/lib.so
Anonymous:             0 kB
7f0000007000-7f0000008000 r--p 00000000 00:00 0
Anonymous:             0 kB
7f0000008000-7f0000009000 r--s 00000000 fe:00 12                         /var/cache/shared
Anonymous:             0 kB
7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0                          [vdso]
Anonymous:             0 kB
"""


def test_only_clean_pages_of_files_go() -> None:
    assert list(clean_mappings(SMAPS)) == [(0x7F0000000000, 0x3000), (0x7F0000003000, 0x2000)]


def test_a_kernel_that_does_not_tell_of_own_pages_costs_nothing() -> None:
    assert list(clean_mappings(SMAPS.replace("Anonymous:", "Other:"))) == []


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
