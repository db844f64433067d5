# SPDX-License-Identifier: Apache-2.0
"""What every `Origin` does: the fake of the scenarios, and HTTPS range requests to a static server."""

import hashlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from p2pd.adapters.http_lines import Lines
from p2pd.adapters.origin_https import OriginHttps
from p2pd.host.http_server import Listener, serve_http
from p2pd.ports import Origin, OriginFailure
from p2pd.services.wan_pacing import Pacer
from signing.reasons import Reason
from tests.fakes.fake_origin import FakeOrigin
from tests.fakes.fake_uplink import FakeUplink

PAYLOAD = bytes(range(256)) * 1_000
SHA256 = hashlib.sha256(PAYLOAD).hexdigest()


@dataclass
class World:
    """An origin that holds one payload, and the way to take it away."""

    origin: Origin
    take_away: Callable[[], None]


@pytest.fixture(params=["fake", "https"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    payloads = tmp_path / "payloads"
    payloads.mkdir()
    (payloads / SHA256).write_bytes(PAYLOAD)
    if request.param == "fake":
        uplink = FakeUplink()
        yield World(FakeOrigin(payloads, uplink, bytes_per_second=1e9).line("pc-1"), uplink.cut)
        return
    app = Starlette(routes=[Mount("/payloads", StaticFiles(directory=payloads))])
    listener = Listener(host="127.0.0.1", port=0)

    async def serve(*, task_status: trio.TaskStatus[Any]) -> None:
        with server:
            await serve_http(app, listener, drain_seconds=0.1, task_status=task_status)

    async with trio.open_nursery() as nursery:
        server = trio.CancelScope()
        ((_, port),) = await nursery.start(serve)
        with closing(Lines(f"http://127.0.0.1:{port}", context=None)) as lines:
            yield World(OriginHttps(lines, source="origin", pacing=Pacer(unix=time.time)), server.cancel)
        server.cancel()


async def collect(origin: Origin, start: int, length: int, *, sha256: str = SHA256) -> bytes:
    async with aclosing(origin.ranges(sha256, start, length)) as chunks:
        return b"".join([chunk async for chunk in chunks])


@pytest.mark.parametrize(
    ("start", "length"), [(0, 1), (0, len(PAYLOAD)), (65_535, 2), (1_000, 200_000), (len(PAYLOAD) - 7, 7)]
)
async def test_a_range_is_brought_exactly(world: World, start: int, length: int) -> None:
    assert await collect(world.origin, start, length) == PAYLOAD[start : start + length]


async def test_a_range_may_be_left_before_its_end(world: World) -> None:
    async with aclosing(world.origin.ranges(SHA256, 0, len(PAYLOAD))) as chunks:
        first = await anext(chunks)
    assert PAYLOAD.startswith(first)
    assert len(first) < len(PAYLOAD)
    assert await collect(world.origin, 0, 10) == PAYLOAD[:10]


async def test_a_payload_that_is_not_there_is_refused(world: World) -> None:
    with pytest.raises(OriginFailure) as failure:
        await collect(world.origin, 0, 1, sha256="f" * 64)
    assert failure.value.reason is Reason.ORIGIN_REFUSED


async def test_an_origin_that_is_away_is_unreachable(world: World) -> None:
    world.take_away()
    with pytest.raises(OriginFailure) as failure:
        await ask_again_and_again(world.origin)
    assert failure.value.reason is Reason.ORIGIN_UNREACHABLE


async def ask_again_and_again(origin: Origin) -> None:
    with trio.fail_after(30):
        while True:  # a connection that is open already may be answered once more
            await collect(origin, 0, 1)


async def test_it_says_how_its_bytes_are_counted(world: World) -> None:
    assert world.origin.source == "origin"
