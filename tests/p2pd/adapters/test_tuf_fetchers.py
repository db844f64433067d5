# SPDX-License-Identifier: Apache-2.0
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest
import trio
from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    SlowRetrievalError,
)

from p2pd.adapters.fail_fast import FailFastFetcher
from p2pd.adapters.tuf_fetchers import FetchLimits, HttpFetcher
from p2pd.host.tls import peer_context, server_context
from signing.many_targets import pack
from tests.fakes.certificates import TestAuthority

Answer = Callable[[trio.abc.Stream], Awaitable[None]]

NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno"
HASTY = FetchLimits(connect_seconds=0.5, silence_seconds=0.2, window_seconds=0.2, window_bytes=1_000_000)


class RawServer:
    """Answers requests on loopback with given bytes, or with whatever a function does to the stream."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes | Answer] = {}
        self.heads: list[str] = []
        self.connections = 0

    async def handle(self, stream: trio.abc.Stream) -> None:
        self.connections += 1
        try:
            async with stream:
                while head := await _request_head(stream):
                    self.heads.append(head)
                    answer = self.answers.get(head.split(" ")[1], NOT_FOUND)
                    if callable(answer):
                        await answer(stream)
                        return
                    await stream.send_all(answer)
        except trio.BrokenResourceError:
            pass  # the client had seen enough


async def _request_head(stream: trio.abc.Stream) -> str:
    head = b""
    while b"\r\n\r\n" not in head:
        chunk = await stream.receive_some(4_096)
        if not chunk:
            return ""
        head += chunk
    return head.decode()


@asynccontextmanager
async def serving(server: RawServer, context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    async with trio.open_nursery() as nursery:
        if context is None:
            (listener,) = await nursery.start(partial(trio.serve_tcp, server.handle, 0, host="127.0.0.1"))
            port = listener.socket.getsockname()[1]
        else:
            serve = partial(trio.serve_ssl_over_tcp, server.handle, 0, context, host="127.0.0.1", https_compatible=True)
            (listener,) = await nursery.start(serve)
            port = listener.transport_listener.socket.getsockname()[1]
        yield f"{'http' if context is None else 'https'}://127.0.0.1:{port}"
        nursery.cancel_scope.cancel()


async def download(
    url: str,
    max_length: int = 1_000,
    *,
    limits: FetchLimits | None = None,
    verify: ssl.SSLContext | bool = False,
) -> bytes:
    async with httpx.AsyncClient(trust_env=False, verify=verify) as client:
        fetcher = HttpFetcher(client, headers={"X-Asked-By": "test"}, limits=limits)
        return await trio.to_thread.run_sync(fetcher.download_bytes, url, max_length)


def body(data: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data)


async def send_without_end(stream: trio.abc.Stream) -> None:
    await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        await stream.send_all(b"\0" * 65_536)


async def say_nothing(stream: trio.abc.Stream) -> None:
    await trio.sleep_forever()


async def trickle(stream: trio.abc.Stream) -> None:
    await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        await stream.send_all(b"\0")
        await trio.sleep(0.02)


async def trickle_headers(stream: trio.abc.Stream) -> None:
    await stream.send_all(b"HTTP/1.1 200 OK\r\n")
    while True:
        await stream.send_all(b"X: y\r\n")
        await trio.sleep(0.02)


async def stop_in_the_middle(stream: trio.abc.Stream) -> None:
    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")


async def test_brings_the_body() -> None:
    server = RawServer()
    server.answers["/metadata/1.root.json"] = body(b"root")
    async with serving(server) as url:
        assert await download(f"{url}/metadata/1.root.json", 4) == b"root"
    assert "Accept-Encoding: identity" in server.heads[0]
    assert "X-Asked-By: test" in server.heads[0]


async def test_brings_a_body_of_many_buffers() -> None:
    data = bytes(range(256)) * 20_000
    server = RawServer()
    server.answers["/big"] = body(data)
    async with serving(server) as url:
        assert await download(f"{url}/big", len(data)) == data


async def test_fetch_brings_it_in_chunks() -> None:
    server = RawServer()
    server.answers["/x"] = body(b"y" * 100_000)
    async with serving(server) as url, httpx.AsyncClient(trust_env=False) as client:
        fetcher = HttpFetcher(client)
        chunks = await trio.to_thread.run_sync(lambda: list(fetcher.fetch(f"{url}/x")))
    assert b"".join(chunks) == b"y" * 100_000
    assert len(chunks) > 1


@pytest.mark.parametrize("status", [301, 302, 403, 404, 500, 206])
async def test_any_other_answer_is_an_error_with_its_status(status: int) -> None:
    server = RawServer()
    server.answers["/a"] = b"HTTP/1.1 %d Hm\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n" % status
    server.answers["/b"] = body(b"followed")
    async with serving(server) as url:
        with pytest.raises(DownloadHTTPError) as answer:
            await download(f"{url}/a")
    assert answer.value.status_code == status
    assert len(server.heads) == 1


async def test_an_error_page_does_not_cost_the_connection() -> None:
    """Each refresh asks for a root that is not there yet; a TLS handshake for each would be a waste."""
    server = RawServer()
    server.answers["/timestamp"] = body(b"timestamp")
    async with serving(server) as url, httpx.AsyncClient(trust_env=False) as client:
        fetcher = HttpFetcher(client)
        with pytest.raises(DownloadHTTPError):
            await trio.to_thread.run_sync(fetcher.download_bytes, f"{url}/root", 100)
        await trio.to_thread.run_sync(fetcher.download_bytes, f"{url}/timestamp", 100)
    assert server.connections == 1


class TestLimits:
    async def test_an_announced_length_beyond_the_limit_is_not_read(self) -> None:
        server = RawServer()
        server.answers["/x"] = body(b"12345")
        async with serving(server) as url:
            with pytest.raises(DownloadLengthMismatchError, match="5 bytes, at most 4"):
                await download(f"{url}/x", 4)

    async def test_endless_data_ends(self) -> None:
        server = RawServer()
        server.answers["/x"] = send_without_end
        async with serving(server) as url:
            with trio.fail_after(30), pytest.raises(DownloadLengthMismatchError, match="longer than 1000 bytes"):
                await download(f"{url}/x", 1_000)

    async def test_a_compressed_answer_is_refused(self) -> None:
        server = RawServer()
        server.answers["/x"] = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"
        async with serving(server) as url:
            with pytest.raises(DownloadError, match="gzip"):
                await download(f"{url}/x")

    @pytest.mark.parametrize("answer", [say_nothing, trickle, trickle_headers])
    async def test_a_source_that_keeps_us_waiting_is_left(self, answer: Answer) -> None:
        server = RawServer()
        server.answers["/x"] = answer
        async with serving(server) as url:
            with trio.fail_after(30), pytest.raises(DownloadError):
                await download(f"{url}/x", limits=HASTY)

    async def test_slowness_is_called_by_its_name(self) -> None:
        server = RawServer()
        server.answers["/x"] = trickle
        async with serving(server) as url:
            with pytest.raises(SlowRetrievalError, match=r"more slowly than 1000000 bytes in 0\.2 s"):
                await download(f"{url}/x", limits=HASTY)

    async def test_a_source_that_keeps_the_pace_may_take_many_windows(self) -> None:
        async def steady(stream: trio.abc.Stream) -> None:
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n")
            for _ in range(9):
                await stream.send_all(b"\0" * 100)
                await trio.sleep(0.1)

        server = RawServer()
        server.answers["/x"] = steady
        patient = FetchLimits(window_seconds=0.6, window_bytes=100)
        async with serving(server) as url:
            assert len(await download(f"{url}/x", limits=patient)) == 900


class TestFailures:
    async def test_a_body_that_stops_in_the_middle(self) -> None:
        server = RawServer()
        server.answers["/x"] = stop_in_the_middle
        async with serving(server) as url:
            with pytest.raises(DownloadError):
                await download(f"{url}/x")

    async def test_nobody_listens(self) -> None:
        with trio.socket.socket() as socket:
            await socket.bind(("127.0.0.1", 0))
            port = socket.getsockname()[1]
            with pytest.raises(DownloadError, match=f"{port}.*refused"):
                await download(f"http://127.0.0.1:{port}/x")

    @pytest.mark.parametrize("url", ["", "nonsense", "ftp://127.0.0.1/x", "http://[/x", "http://127.0.0.1:99999/x"])
    async def test_an_address_that_is_none(self, url: str) -> None:
        with pytest.raises(DownloadError):
            await download(url)

    async def test_an_answer_that_is_no_http(self) -> None:
        server = RawServer()
        server.answers["/x"] = b"SSH-2.0-OpenSSH\r\n\r\n"
        async with serving(server) as url:
            with pytest.raises(DownloadError):
                await download(f"{url}/x")

    async def test_cancelling_the_task_ends_the_download_at_once(self) -> None:
        server = RawServer()
        server.answers["/x"] = say_nothing
        async with serving(server) as url:
            with trio.move_on_after(0.1) as patience:
                await download(f"{url}/x")
        assert patience.cancelled_caught


class TestTls:
    """A LAN peer is dialled by address, and must show a certificate of the segment."""

    @pytest.mark.parametrize("is_of_the_segment", [True, False])
    async def test_a_peer_is_believed_by_its_authority(self, tmp_path: Path, is_of_the_segment: bool) -> None:
        authority, other = (TestAuthority(tmp_path, name) for name in ("factory", "office"))
        peer, me = (authority if is_of_the_segment else other).issue("peer"), authority.issue("me")
        server = RawServer()
        server.answers["/x"] = body(b"for the factory")
        serves = server_context(certificate=peer.certificate, key=peer.key)
        dials = peer_context(ca_pem=authority.pem, certificate=me.certificate, key=me.key)
        async with serving(server, serves) as url:
            if is_of_the_segment:
                assert await download(f"{url}/x", verify=dials) == b"for the factory"
            else:
                with pytest.raises(DownloadError, match="certificate"):
                    await download(f"{url}/x", verify=dials)
                assert server.heads == []


async def fetch_many(url: str) -> list[bytes]:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await trio.to_thread.run_sync(HttpFetcher(client).fetch_many, f"{url}/targets/", ["a", "b", "c"])


async def test_many_targets_come_in_one_answer() -> None:
    server = RawServer()
    server.answers["/targets"] = body(pack([b"first", None]))
    async with serving(server) as url:
        assert await fetch_many(url) == [b"first", b""]
    assert server.heads[0].startswith("POST ")


async def test_a_server_that_answers_whatever_it_is_asked_gives_nothing() -> None:
    server = RawServer()
    server.answers["/targets"] = body(b"<html>welcome</html>")
    async with serving(server) as url:
        assert await fetch_many(url) == []


async def test_static_files_give_nothing_together() -> None:
    """And that says nothing against asking them one by one."""
    async with serving(RawServer()) as url, httpx.AsyncClient(trust_env=False) as client:
        fetcher = FailFastFetcher(HttpFetcher(client))
        assert await trio.to_thread.run_sync(fetcher.fetch_many, f"{url}/targets/", ["a", "b"]) == []
        with pytest.raises(DownloadHTTPError):
            await trio.to_thread.run_sync(fetcher.download_bytes, f"{url}/targets/a", 10)
