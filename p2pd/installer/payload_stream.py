# SPDX-License-Identifier: Apache-2.0
"""The uncompressed payload as a forward-only file: bounded in size and memory, and hashed once, as it passes by."""

import hashlib
import io
from collections.abc import Iterator
from typing import BinaryIO

import zstandard

from p2pd.installer.refusal import UnsafePayload
from signing.errors import ContentMismatch
from signing.manifest import Content

CHUNK_BYTES = 1 << 20
TAR_BLOCK_BYTES = 512
MAX_HEADER_BYTES = 65_536  # all headers of one member: names and links have at most 4 KiB each, twice
MAX_WINDOW_BYTES = 1 << 27  # what `zstd -19 --long=27` needs; the decompressor allocates no more


class PayloadStream(io.RawIOBase):
    """Decompresses `transport`, if it is compressed, and refuses to give a byte more than `content` says.

    tarfile reads headers through `read`, which is bounded by a budget that `begin_header` renews; whole contents pass
    through `content`. Nothing that was read may be believed before `finish` has returned.
    """

    def __init__(self, transport: BinaryIO, content: Content, *, where: str, is_compressed: bool = True) -> None:
        super().__init__()
        self._frame: BinaryIO = transport
        if is_compressed:
            decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
            self._frame = decompressor.stream_reader(transport, read_size=CHUNK_BYTES, closefd=False)
        self._content = content
        self._where = where
        self._digest = hashlib.sha256()
        self._position = 0
        self._header_budget = 0
        self._last_block = b""

    def readable(self) -> bool:
        """Whether `read` may be called: always."""
        return True

    def tell(self) -> int:
        """Bytes of the payload that have passed."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move forward within the padding of the member that was read last, and nowhere else."""
        distance = offset - self._position
        if whence != io.SEEK_SET or not 0 <= distance < TAR_BLOCK_BYTES:
            raise UnsafePayload(self._where, f"a member's size points {distance} bytes away from where its data ends")
        self._take(distance)
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Bytes of a header; fewer than `size` only at the end of the payload."""
        if not 0 <= size <= self._header_budget:
            raise UnsafePayload(self._where, f"a member's headers are larger than {MAX_HEADER_BYTES} bytes")
        self._header_budget -= size
        self._last_block = self._take(size)
        return self._last_block

    def begin_header(self) -> None:
        """Allow the headers of the next member."""
        self._header_budget = MAX_HEADER_BYTES

    def content(self, size: int) -> Iterator[bytes]:
        """The next `size` bytes in chunks. Raises UnsafePayload if the payload ends before."""
        left = size
        while left:
            chunk = self._take(min(left, CHUNK_BYTES))
            if not chunk:
                raise UnsafePayload(self._where, f"ends {left} bytes before the end of a member's data")
            left -= len(chunk)
            yield chunk

    def finish(self) -> None:
        """Read what is left, which must be the padding of a tar, and check size and SHA-256 of it all."""
        if self._last_block.strip(b"\0"):
            raise UnsafePayload(self._where, "a header is damaged")
        while chunk := self._take(CHUNK_BYTES):
            if chunk.strip(b"\0"):
                raise UnsafePayload(self._where, "data follows the end of the archive")
        if self._position != self._content.size:
            raise ContentMismatch(self._where, expected=f"{self._content.size} bytes", actual=f"{self._position} bytes")
        if self._digest.hexdigest() != self._content.sha256:
            raise ContentMismatch(self._where, expected=self._content.sha256, actual=self._digest.hexdigest())

    def _take(self, size: int) -> bytes:
        wanted, parts = size, []
        while wanted:
            try:
                part = self._frame.read(wanted)
            except zstandard.ZstdError as problem:
                raise UnsafePayload(self._where, f"cannot be decompressed ({problem})") from None
            if not part:
                break
            parts.append(part)
            wanted -= len(part)
        data = b"".join(parts)
        self._position += len(data)
        if self._position > self._content.size:
            raise ContentMismatch(
                self._where, expected=f"{self._content.size} bytes", actual=f"more than {self._content.size}"
            )
        self._digest.update(data)
        return data
