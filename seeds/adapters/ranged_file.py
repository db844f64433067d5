# SPDX-License-Identifier: Apache-2.0
"""A file that never changes, whole or by one range, in few large chunks: out of the page cache where it has them.

A thread for each chunk costs more than reading it does. What the page cache has is read at once (RWF_NOWAIT, see
preadv2(2)), and only what the disk has to bring is brought by a thread. Starlette answers the rare questions: HEAD,
several ranges, and ranges that make no sense.
"""

import errno
import os
import re

import trio
from starlette.datastructures import Headers
from starlette.responses import FileResponse
from starlette.types import Receive, Scope, Send

CHUNK_BYTES = 196_608  # of each answer under way; as much again while it is encrypted, and 4/3 of it in TLS's buffer

_ONE_RANGE = re.compile(r"bytes=([0-9]{1,18})-([0-9]{0,18})")
_READ_NOW: int | None = getattr(os, "RWF_NOWAIT", None)  # Linux only
_NOT_NOW = frozenset({errno.EAGAIN, errno.EOPNOTSUPP, errno.ENOSYS})  # it is on the disk; the system cannot tell


class RangedFile(FileResponse):
    """The answer to a request for `path`, a regular file that `stat_result` describes."""

    chunk_size = CHUNK_BYTES
    max_ranges = 16

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it as ASGI wants. Raises OSError when the file went, or became shorter, meanwhile."""
        asked = self._asked(scope)
        if asked is None:
            await super().__call__(scope, receive, send)
            return
        start, end, status, headers = asked
        # Its directory entry was looked up a moment ago, so opening waits for no disk; nor, so flagged, for a pipe.
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            await send({"type": "http.response.start", "status": status, "headers": headers})
            while start < end:
                chunk = await _read(descriptor, start, min(CHUNK_BYTES, end - start))
                if not chunk:
                    raise OSError(errno.EIO, "the file became shorter while it was served", str(self.path))
                start += len(chunk)
                await send({"type": "http.response.body", "body": chunk, "more_body": start < end})
        finally:
            os.close(descriptor)

    def _asked(self, scope: Scope) -> tuple[int, int, int, list[tuple[bytes, bytes]]] | None:
        """First byte, end, status and headers of the answer; None when Starlette is to find them."""
        size = 0 if self.stat_result is None else self.stat_result.st_size
        if scope["method"] != "GET" or size == 0:
            return None
        asked = Headers(scope=scope)
        if "range" not in asked:
            return 0, size, 200, self.raw_headers
        one = _ONE_RANGE.fullmatch(asked["range"])
        if one is None or asked.get("if-range", self.headers["etag"]) != self.headers["etag"]:
            return None
        start, end = int(one[1]), min(int(one[2]) + 1, size) if one[2] else size
        if start >= end:
            return None
        headers = [(name, value) for name, value in self.raw_headers if name != b"content-length"]
        headers += [
            (b"content-length", b"%d" % (end - start)),
            (b"content-range", b"bytes %d-%d/%d" % (start, end - 1, size)),
        ]
        return start, end, 206, headers


async def _read(descriptor: int, start: int, size: int) -> bytes:
    if _READ_NOW is not None:
        buffer = bytearray(size)
        try:
            count = os.preadv(descriptor, [buffer], start, _READ_NOW)
        except OSError as problem:
            if problem.errno not in _NOT_NOW:
                raise
        else:
            if count:
                return bytes(memoryview(buffer)[:count])
    return await trio.to_thread.run_sync(os.pread, descriptor, size, start)
