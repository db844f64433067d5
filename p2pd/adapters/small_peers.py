# SPDX-License-Identifier: Apache-2.0
"""Small payloads between the endpoints of a segment: questions to a peer's mirror, and answers of our own."""

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Self

import httpx
import trio
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from p2pd.adapters.http_chunks import raw_chunks, words_of
from p2pd.adapters.small_frames import (
    MAX_WAIT_SECONDS,
    MOST_ANSWERED,
    ROUTE,
    FrameReader,
    pack_payloads,
    pack_wanted,
    read_wanted,
)
from p2pd.host.http_bounds import PEER
from p2pd.host.latest import Watch, first_of
from p2pd.host.telemetry import log
from p2pd.ports import Endpoint
from p2pd.ports_control import StorageFailed
from p2pd.ports_small import MAX_WANTED, PeerBusy, PeerFailure, SmallShelf
from signing.errors import BadInput
from signing.manifest import SMALL_BYTES, Content

CONNECT_SECONDS = 3.0  # on a LAN; who needs longer is as good as away
SILENCE_SECONDS = 10.0  # beyond what the peer was granted for waiting
GATHER_SECONDS = 0.25  # after the first arrival for the rest: what comes one by one need not leave one by one
MAX_WAITING = 256  # questions at once; whoever comes on top is told at once that we are busy,
MAX_WAITING_EACH = 4  # and so is one device that has so many here: an honest one has three
BATCH_BYTES = SMALL_BYTES  # of an answer in memory

_log = log(__name__)


class SmallPeersHttps:
    """Implements `p2pd.ports_small.SmallPeers`. `client` shows our certificate and believes the segment's authority."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def ask(self, peer: Endpoint, wanted: Sequence[Content], *, wait_seconds: float) -> Mapping[str, bytes]:
        """See `SmallPeers`. An answer is cut off at the first byte that cannot be right."""
        host = f"[{peer.host}]" if ":" in peer.host else peer.host
        url = f"https://{host}:{peer.port}{ROUTE}"
        wanted = wanted[:MAX_WANTED]
        reader = FrameReader({content.sha256: content.size for content in wanted})
        question = _question(url, [content.sha256 for content in wanted], wait_seconds)
        hostile: BadInput | None = None
        try:
            async with aclosing(await self._client.send(question, stream=True)) as answer:
                if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE and wait_seconds:
                    raise PeerBusy(url)
                if answer.status_code != httpx.codes.OK or "Content-Encoding" in answer.headers:
                    raise PeerFailure(f"{url}: HTTP {answer.status_code}")
                async with raw_chunks(answer) as chunks:
                    async for chunk in chunks:
                        try:
                            reader.feed(chunk)
                        except BadInput as problem:
                            hostile = problem
                            break
        except (httpx.HTTPError, trio.BrokenResourceError) as problem:
            if hostile is None:
                raise PeerFailure(f"{url}: {words_of(problem)}") from problem
        if hostile is not None:
            raise PeerFailure(f"{url}: {hostile}", is_hostile=True) from hostile
        if not reader.is_whole:
            raise PeerFailure(f"{url}: the answer ends in the middle")
        return reader.payloads


class _Body(httpx.AsyncByteStream):
    """Bytes to send. httpx's own are a generator, which a refused handshake would leave to the garbage collector."""

    def __init__(self, data: bytes) -> None:
        self._parts = iter([data])

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        for part in self._parts:
            return part
        raise StopAsyncIteration


def _question(url: str, digests: Sequence[str], wait_seconds: float) -> httpx.Request:
    body = pack_wanted(digests)
    address = httpx.URL(url, params={"wait": f"{wait_seconds:.3f}"})
    headers = {
        "Host": address.netloc.decode(),
        "Content-Length": str(len(body)),
        "Content-Type": "application/octet-stream",
        "Accept-Encoding": "identity",
    }
    timeout = httpx.Timeout(SILENCE_SECONDS + wait_seconds, connect=CONNECT_SECONDS)
    return httpx.Request(
        "POST", address, headers=headers, stream=_Body(body), extensions={"timeout": timeout.as_dict()}
    )


class SmallDesk:
    """Hands out what a shelf holds, to whoever asks; who may ask is decided elsewhere.

    However many ask, no more than BATCH_BYTES of an answer are in memory, and a waiting question is its digests.
    """

    def __init__(self, shelf: SmallShelf) -> None:
        self._shelf = shelf
        self._waiting: Counter[str] = Counter()  # questions by asker

    async def wait(self, wanted: Sequence[str], wait_seconds: float, *, asker: str) -> None:
        """Until some of `wanted` is there, and what follows soon, or `wait_seconds` are over.

        Raises PeerBusy if nothing of it is there and there is no place to wait, or if it is not expected here either.
        """
        arrivals = self._shelf.arrivals.watch()  # before the look, so that nothing comes unnoticed between the two
        awaited = [digest for digest in wanted if not self._shelf.holds(digest)] if wait_seconds else []
        is_expected = any(map(self._shelf.expects, awaited))
        has_place = self._waiting.total() < MAX_WAITING and self._waiting[asker] < MAX_WAITING_EACH
        if not is_expected or not has_place:
            if wait_seconds and len(awaited) == len(wanted):
                raise PeerBusy("too many questions are waiting" if is_expected else "nothing of it is expected here")
            return
        self._waiting[asker] += 1
        try:
            await first_of(partial(self._some_come, arrivals, wanted), seconds=wait_seconds)
        finally:
            self._waiting -= Counter((asker,))  # which forgets those who have none any more

    async def batches(self, wanted: Sequence[str]) -> AsyncGenerator[Mapping[str, bytes], None]:
        """What is there of `wanted`, in order and one batch after the other. Raises StorageFailed."""
        left, remaining = MOST_ANSWERED, list(dict.fromkeys(wanted))
        while remaining and left > 0:
            found = await self._shelf.read(remaining, most_bytes=min(BATCH_BYTES, left))
            size = sum(map(len, found.values()))
            if not found or size > left:
                return
            yield found
            left -= size
            remaining = remaining[remaining.index(list(found)[-1]) + 1 :]

    async def _some_come(self, arrivals: Watch[int], wanted: Sequence[str]) -> None:
        """The first of `wanted`, and what follows it soon. One that is wanted alone waits for nothing else."""
        while not any(map(self._shelf.holds, wanted)):
            await arrivals.changed()
        with trio.move_on_after(GATHER_SECONDS):
            while not all(map(self._shelf.holds, wanted)):
                await arrivals.changed()


class _Answer(Response):
    """Batches as they are read from disk and leave: the next is read when the peer has taken the one before."""

    def __init__(self, first: Mapping[str, bytes], rest: AsyncGenerator[Mapping[str, bytes], None]) -> None:
        super().__init__(media_type="application/octet-stream")
        del self.headers["Content-Length"]  # it is known at the end
        self._first = first
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._rest) as rest:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            batch = self._first
            while batch:
                await send({"type": "http.response.body", "body": pack_payloads(batch), "more_body": True})
                try:
                    batch = await anext(rest, {})
                except StorageFailed as problem:
                    _log.warning("small payloads cannot be read", why=str(problem))
                    break  # what has left is whole, and the peer asks again for the rest
            await send({"type": "http.response.body", "body": b""})


def payloads_endpoint(desk: SmallDesk) -> Callable[[Request], Awaitable[Response]]:
    """Questions to `desk` over HTTP. Who may ask was decided in the TLS handshake, which says who it is, too."""

    async def answer(request: Request) -> Response:
        try:
            wanted = read_wanted(await request.body())
            await desk.wait(wanted, _wait(request), asker=request.scope.get(PEER, ""))
            batches = desk.batches(wanted)
            return _Answer(await anext(batches, {}), batches)
        except BadInput as problem:
            return PlainTextResponse(str(problem), status_code=httpx.codes.BAD_REQUEST)
        except (PeerBusy, StorageFailed) as problem:
            return PlainTextResponse(str(problem), status_code=httpx.codes.SERVICE_UNAVAILABLE)

    return answer


def _wait(request: Request) -> float:
    text = request.query_params.get("wait", "0")
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= MAX_WAIT_SECONDS:  # which is how NaN falls, too
        raise BadInput("wait", f"must be between 0 and {MAX_WAIT_SECONDS:g} seconds")
    return seconds
