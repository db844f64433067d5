# SPDX-License-Identifier: Apache-2.0
"""Debian packages made byte by byte, honest and hostile."""

import bz2
import gzip
import lzma
from collections.abc import Callable

import zstandard

from tests.hostile.archives import DIRECTORY, GOOD, SYMLINK, tar, tar_member

CONTROL = b"Package: sample\nVersion: 1.0-1\nArchitecture: all\nDescription: a sample\n of a package\n"
FORMAT = ("debian-binary", b"2.0\n")
_PACK: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
}


def ar(*members: tuple[str, bytes], declared_size: int | None = None) -> bytes:
    """An ar archive; `declared_size` is a lie about the last member."""
    whole = b"!<arch>\n"
    for index, (name, data) in enumerate(members):
        is_last = index == len(members) - 1
        size = declared_size if is_last and declared_size is not None else len(data)
        whole += b"%-16s%-12d%-6d%-6d%-8s%-10d`\n" % (name.encode(), 1_700_000_000, 0, 0, b"100644", size)
        whole += data + b"\n" * (len(data) % 2)
    return whole


def control_tar(control: bytes = CONTROL, **others: bytes) -> bytes:
    """An uncompressed control.tar; `others` are further files by their names."""
    files = [tar_member(f"./{name}", data, mode=0o755) for name, data in others.items()]
    return tar(tar_member("./", kind=DIRECTORY, mode=0o755), tar_member("./control", control), *files)


def deb(data: bytes, control: bytes | None = None, *, suffix: str = "") -> bytes:
    """A package around two uncompressed tars, packed as `suffix` says."""
    pack = _PACK[suffix]
    return ar(FORMAT, (f"control.tar{suffix}", pack(control or control_tar())), (f"data.tar{suffix}", pack(data)))


def hostile_debs() -> dict[str, bytes]:
    """Packages that must be refused, by the name of the attack; hostile tars as their data come on top."""
    good = tar(GOOD)
    control = ("control.tar", control_tar())
    data = ("data.tar", good)
    return {
        "only_the_magic": b"!<arch>\n",
        "another_ar_archive": ar(("lib.o", b"x")),
        "no_control": ar(FORMAT, data),
        "no_data": ar(FORMAT, control),
        "data_twice": ar(FORMAT, control, data, ("data.tar.gz", gzip.compress(good))),
        "part_twice": ar(FORMAT, control, data, data),
        "format_not_first": ar(control, FORMAT, data),
        "format_3": ar(("debian-binary", b"3.0\n"), control, data),
        "many_parts": ar(FORMAT, control, data, *((f"_{index}", b"") for index in range(20))),
        "size_negative": ar(FORMAT, control, data, declared_size=-60),
        "size_beyond_end": ar(FORMAT, control, data, declared_size=9_999_999),
        "size_no_number": ar(FORMAT, control, data).replace(b"%-10d`" % len(good), b"many      `"),
        "cut_in_header": ar(FORMAT, control, data)[:100],
        "cut_in_data": ar(FORMAT, control, data)[:-700],
        "data_lzma": ar(FORMAT, control, ("data.tar.lzma", lzma.compress(good, lzma.FORMAT_ALONE))),
        "data_not_as_named": ar(FORMAT, control, ("data.tar.xz", gzip.compress(good))),
        "data_compressed_unnamed": ar(FORMAT, control, ("data.tar", gzip.compress(good))),
        "control_without_file": deb(good, tar(GOOD)),
        "control_empty": deb(good, control_tar(b"")),
        "control_without_version": deb(good, control_tar(b"Package: sample\n")),
        "control_not_utf8": deb(good, control_tar(b"Package: caf\xe9\nVersion: 1\n")),
        "control_is_a_link": deb(good, tar(tar_member("control", kind=SYMLINK, link="elsewhere"))),
        "control_bomb": deb(good, control_tar(md5sums=bytes(20 << 20)), suffix=".gz"),
        "link_beyond_root": deb(tar(GOOD, tar_member("usr/link", kind=SYMLINK, link="../../evil"))),
        "absolute_link_with_parent": deb(tar(GOOD, tar_member("usr/link", kind=SYMLINK, link="/usr/../../evil"))),
        "setuid": deb(tar(GOOD, tar_member("./usr/bin/su", b"x", mode=0o4755))),
    }
