# SPDX-License-Identifier: Apache-2.0
"""Compressed streams: recognised by their first bytes, decompressed within bounds of memory and disk.

A sorted payload reads its members in another order than the archive stores them, so a compressed tar is first
decompressed to a spool: a file without a name, which vanishes with the process however that ends.
"""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import zstandard

from seeds.adapters.sources.region import CHUNK_BYTES, Region
from seeds.adapters.sources.scratch import unnamed_file, write_all
from signing.bounds import MAX_PAYLOAD_BYTES
from signing.errors import BadInput

MAX_WINDOW_BYTES = 128 * 2**20  # `zstd --long` without a number; Debian packages need 8 MiB
MAX_XZ_MEMORY_BYTES = 192 * 2**20  # `xz -9` needs 65 MiB to decompress
MAX_RATIO = 1_100  # deflate ends at 1,032; only runs of one byte make more of bzip2, xz and zstd
RATIO_FREE_BYTES = 64 * 2**20  # below this a high ratio harms nobody

_MAGIC = ((b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ\0", "xz"), (b"\x28\xb5\x2f\xfd", "zstd"))


def codec_of(region: Region) -> str | None:
    """The codec whose magic number `region` starts with, or None."""
    head = region.read_at(0, 8)
    return next((codec for magic, codec in _MAGIC if head.startswith(magic)), None)


@contextmanager
def spooled(region: Region, codec: str, directory: Path, *, max_bytes: int = MAX_PAYLOAD_BYTES) -> Iterator[Region]:
    """The decompressed `region`, in an unnamed file below `directory` while the block lasts.

    Raises BadInput, or DiskFull. A zstd stream that is cut is not noticed here: the tar inside it has no end then.
    """
    with unnamed_file(directory) as spool:
        size = 0
        for chunk in _decompressed(region, codec):
            size += len(chunk)
            if size > max_bytes:
                raise BadInput(region.where, f"decompresses to more than {max_bytes} bytes", "split the patch")
            check_ratio(region.where, packed=region.size, unpacked=size)
            write_all(spool, chunk, directory)
        yield Region(spool, 0, size, where=region.where)


def check_ratio(where: str, *, packed: int, unpacked: int) -> None:
    """Raise BadInput for what blows up beyond any honest ratio."""
    if unpacked > RATIO_FREE_BYTES and unpacked > packed * MAX_RATIO:
        remedy = "if it is meant to, unpack it and build from the directory"
        raise BadInput(where, f"decompresses to more than {MAX_RATIO} times its {packed} bytes", remedy)


def _decompressed(region: Region, codec: str) -> Iterator[bytes]:
    chunks = _READERS[codec](region)
    while True:
        try:
            chunk = next(chunks, b"")
        except (OSError, EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError, ValueError) as problem:
            # What the operating system has to say about the file is BadInput already; OSError is bz2's and gzip's.
            remedy = "fetch it again, or pack it again"
            raise BadInput(region.where, f"is no readable {codec} stream ({problem}): truncated?", remedy) from None
        if not chunk:
            return
        yield chunk


def _gzip(region: Region) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=_file(region), mode="rb") as stream:
        yield from _until_end(stream.read)


def _bzip2(region: Region) -> Iterator[bytes]:
    with bz2.BZ2File(_file(region)) as stream:
        yield from _until_end(stream.read)


def _zstd(region: Region) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
    with decompressor.stream_reader(_file(region), read_across_frames=True) as stream:
        yield from _until_end(stream.read)


def _xz(region: Region) -> Iterator[bytes]:
    # lzma.LZMAFile has no memory limit, and an xz header may ask for 4 GiB.
    chunks = region.chunks(0, region.size)
    pending = b""
    while pending or (pending := next(chunks, b"")):
        decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_XZ_MEMORY_BYTES)
        while not decompressor.eof:
            if decompressor.needs_input and not (pending := pending or next(chunks, b"")):
                raise EOFError("it ends in the middle")
            yield from _some(decompressor.decompress(pending, CHUNK_BYTES))
            pending = b""
        pending = _after_padding(decompressor.unused_data, chunks)


def _after_padding(rest: bytes, chunks: Iterator[bytes]) -> bytes:
    # Between xz streams and after the last one stand zero bytes or nothing.
    while not (rest := rest.lstrip(b"\0")):
        following = next(chunks, b"")
        if not following:
            break
        rest = following
    return rest


def _until_end(read: Callable[[int], bytes]) -> Iterator[bytes]:
    while chunk := read(CHUNK_BYTES):
        yield chunk


def _some(data: bytes) -> Iterator[bytes]:
    if data:
        yield data


def _file(region: Region) -> BinaryIO:
    return cast("BinaryIO", io.BufferedReader(_Sequential(region), CHUNK_BYTES))


class _Sequential(io.RawIOBase):
    """A region as a file that is read once, from its beginning."""

    def __init__(self, region: Region) -> None:
        super().__init__()
        self._region = region
        self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed: any writable buffer
        data = self._region.read_at(self._position, len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


_READERS: dict[str, Callable[[Region], Iterator[bytes]]] = {
    "gzip": _gzip,
    "bzip2": _bzip2,
    "xz": _xz,
    "zstd": _zstd,
}
