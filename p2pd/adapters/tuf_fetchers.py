# SPDX-License-Identifier: Apache-2.0
"""Bytes for the trust client over HTTP or HTTPS: from the coordinator, any static origin, or a LAN peer's mirror.

The trust client is synchronous and runs in a worker thread (`trio.to_thread`); each download calls back into the
trio task that waits for that thread. So time limits are trio's, and cancelling the task ends a download at once:
`Cancelled` comes out of the fetcher in the thread, and out of `to_thread.run_sync` in the task.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import httpx
import trio
from tuf.api.exceptions import DownloadError, DownloadHTTPError, DownloadLengthMismatchError, SlowRetrievalError

from p2pd.adapters.http_chunks import words_of
from signing.errors import BadInput
from signing.many_targets import MAX_ANSWER_BYTES as MAX_MANY_BYTES
from signing.many_targets import ManyAtOnceFetcher, unpack

MAX_BYTES_IN_MEMORY = 16 * 2**20  # of one download: all that a daemon fetches this way; larger ones go to disk
MAX_ANSWER_BYTES = 16_384  # of an error page that is read to its end, so that the connection can be used again
CHUNK_BYTES = 65_536


@dataclass(frozen=True, kw_only=True)
class FetchLimits:
    """How long a source may take. A source that keeps a client waiting for ever is an attack (slow retrieval)."""

    connect_seconds: float = 10.0
    silence_seconds: float = 30.0  # between two reads from the socket
    # Every window must bring that many bytes, or the end: 1 KiB/s, below any link on which an update makes sense.
    window_seconds: float = 60.0
    window_bytes: int = 60 * 1_024
    max_bytes: int = 2**30  # of a download whose caller names no limit


class HttpFetcher(ManyAtOnceFetcher):
    """Fetches through `client`, whose TLS context decides whom to believe; redirects are never followed.

    Usable only from a thread that `trio.to_thread.run_sync` started.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        headers: Mapping[str, str] | None = None,
        limits: FetchLimits | None = None,
    ) -> None:
        self._client = client
        # Compressed answers could unpack to far more than the limit before anybody counts.
        self._headers = {**(headers or {}), "Accept-Encoding": "identity"}
        self._limits = limits or FetchLimits()

    @contextmanager
    def download_file(self, url: str, max_length: int) -> Iterator[IO[bytes]]:
        """Lend a file with the answer to a GET of `url`. Raises DownloadError, and OSError when there is no room.

        Nothing is read past the first chunk that exceeds `max_length`, and nothing at all if the server announces more.
        """
        with tempfile.SpooledTemporaryFile(MAX_BYTES_IN_MEMORY) as file:
            trio.from_thread.run(self._download, url, _Intake(file, max_length))
            file.seek(0)
            yield file

    def fetch_many(self, targets_url: str, names: Sequence[str]) -> list[bytes]:
        """See `ManyAtOnceFetcher`. Raises DownloadHTTPError, too, when the source knows no such question."""
        with tempfile.SpooledTemporaryFile(MAX_BYTES_IN_MEMORY) as file:
            intake = _Intake(file, MAX_MANY_BYTES)
            trio.from_thread.run(self._download, targets_url.rstrip("/"), intake, {"names": list(names)})
            file.seek(0)
            try:
                return unpack(file.read(), most=len(names))
            except BadInput:
                return []  # a server that answers whatever it is asked

    def _fetch(self, url: str) -> Iterator[bytes]:
        with self.download_file(url, self._limits.max_bytes) as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    async def _download(self, url: str, intake: "_Intake", question: Mapping[str, Any] | None = None) -> None:
        limits = self._limits
        pace = trio.CancelScope(deadline=trio.current_time() + limits.window_seconds)
        quota = limits.window_bytes
        with _download_errors(url), pace:
            async with self._answer(url, question) as answer:
                await _check_answer(answer, url, intake.max_length)
                # An error raised in this loop would leave httpx's nested generators suspended, and the connection
                # with them; cancelled at their next read, they end in order.
                async for chunk in answer.aiter_raw():
                    if not intake.take(chunk):
                        pace.cancel()
                    elif intake.received >= quota:
                        quota = intake.received + limits.window_bytes
                        pace.deadline = trio.current_time() + limits.window_seconds
        if intake.failure is not None:
            raise intake.failure
        if pace.cancelled_caught:
            rate = f"{limits.window_bytes} bytes in {limits.window_seconds:g} s"
            raise SlowRetrievalError(f"{url}: the answer comes more slowly than {rate}")

    def _answer(self, url: str, question: Mapping[str, Any] | None) -> Any:
        silence = self._limits.silence_seconds
        return self._client.stream(
            "GET" if question is None else "POST",
            url,
            json=question,
            headers=self._headers,
            follow_redirects=False,
            timeout=httpx.Timeout(silence, connect=self._limits.connect_seconds),
        )


class _Intake:
    """Where chunks go; it keeps errors for later instead of raising them."""

    def __init__(self, file: IO[bytes], max_length: int) -> None:
        self.max_length = max_length
        self.received = 0
        self.failure: Exception | None = None
        self._file = file

    def take(self, chunk: bytes) -> bool:
        """Keep `chunk`; False when there must be no more. Blocks for a disk only beyond MAX_BYTES_IN_MEMORY."""
        self.received += len(chunk)
        if self.received > self.max_length:
            self.failure = DownloadLengthMismatchError(f"the answer is longer than {self.max_length} bytes")
        elif self.failure is None:
            try:
                self._file.write(chunk)
            except OSError as problem:
                self.failure = problem
        return self.failure is None


async def _check_answer(answer: httpx.Response, url: str, max_length: int) -> None:
    announced = answer.headers.get("Content-Length", "")
    length = int(announced) if announced.isdecimal() else None
    if answer.status_code != httpx.codes.OK:
        if length is not None and length <= MAX_ANSWER_BYTES:
            async for _ in answer.aiter_raw():
                pass
        raise DownloadHTTPError(f"{url}: the server answered {answer.status_code}", answer.status_code)
    encoding = answer.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise DownloadError(f"{url}: the answer is encoded as {encoding!r}, which nobody asked for")
    if length is not None and length > max_length:
        raise DownloadLengthMismatchError(f"{url}: the answer has {length} bytes, at most {max_length} are expected")


@contextmanager
def _download_errors(url: str) -> Iterator[None]:
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as problem:
        raise DownloadError(f"{url}: {words_of(problem)}") from problem
