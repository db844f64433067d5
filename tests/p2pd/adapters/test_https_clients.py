# SPDX-License-Identifier: Apache-2.0
"""The agent's HTTPS clients against a real server on loopback that answers well, badly, or not at all."""

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, closing
from typing import Any

import httpx
import pytest
import trio

from p2pd.adapters.coordinator_https import MAX_ANSWER_BYTES, AgentClient, CoordinatorHttps
from p2pd.adapters.http_lines import Lines
from p2pd.adapters.origin_https import OriginHttps
from p2pd.host.http_server import Listener, serve_http
from p2pd.ports import OriginFailure
from p2pd.ports_control import CoordinatorUnavailable, Refused, ReportVerdict
from p2pd.services.wan_pacing import Pacer
from signing.reasons import Reason

PAYLOAD = bytes(range(256)) * 1_024
SHA256 = "a" * 64
App = Callable[[Any, Any, Any], Awaitable[None]]


@asynccontextmanager
async def serving(app: App) -> AsyncIterator[tuple[httpx.AsyncClient, str]]:
    async with trio.open_nursery() as nursery, httpx.AsyncClient(trust_env=False) as client:

        async def serve(*, task_status: trio.TaskStatus[Any]) -> None:
            await serve_http(app, Listener(host="127.0.0.1", port=0), drain_seconds=0.1, task_status=task_status)

        bound = await nursery.start(serve)
        yield client, f"http://127.0.0.1:{bound[0][1]}"
        nursery.cancel_scope.cancel()


def answering(status: int, body: bytes) -> App:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(
            {"type": "http.response.start", "status": status, "headers": [(b"content-length", str(len(body)).encode())]}
        )
        await send({"type": "http.response.body", "body": body})

    return app


async def static_origin(scope: Any, receive: Any, send: Any) -> None:
    """What any static server does with `Range: bytes=a-b`."""
    span = dict(scope["headers"])[b"range"].decode().removeprefix("bytes=")
    first, last = (int(text) for text in span.split("-"))
    await answering(206, PAYLOAD[first : last + 1])(scope, receive, send)


@asynccontextmanager
async def origin_at(url: str) -> AsyncIterator[OriginHttps]:
    with closing(Lines(url, context=None)) as lines:
        yield OriginHttps(lines, source="origin", pacing=Pacer(unix=time.time))


async def collect(origin: OriginHttps, start: int, length: int) -> bytes:
    async with aclosing(origin.ranges(SHA256, start, length)) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def test_a_range_is_brought_exactly() -> None:
    async with serving(static_origin) as (_, url), origin_at(url) as origin:
        assert await collect(origin, 1_000, 100_000) == PAYLOAD[1_000:101_000]


@pytest.mark.parametrize(
    ("app", "reason"),
    [
        (answering(404, b"no such payload"), Reason.ORIGIN_REFUSED),
        (answering(200, PAYLOAD), Reason.ORIGIN_REFUSED),  # ignores the range: would send everything
        (answering(206, PAYLOAD), Reason.ORIGIN_REFUSED),  # sends more than was asked for
        (answering(503, b""), Reason.ORIGIN_REFUSED),
    ],
)
async def test_an_origin_that_answers_wrongly_is_refused(app: App, reason: Reason) -> None:
    async with serving(app) as (_, url), origin_at(url) as origin:
        with pytest.raises(OriginFailure) as failure:
            await collect(origin, 0, 1_000)
    assert failure.value.reason is reason


async def test_an_origin_that_is_away_is_unreachable() -> None:
    async with serving(static_origin) as (_, url):
        pass
    async with origin_at(url) as origin:
        with pytest.raises(OriginFailure) as failure:
            await collect(origin, 0, 1_000)
    assert failure.value.reason is Reason.ORIGIN_UNREACHABLE


def coordinator(client: httpx.AsyncClient, url: str) -> CoordinatorHttps:
    return CoordinatorHttps(client, AgentClient(client), url=url, agent_url=url)


ENVELOPES = [b'{"payload": "1"}', b'{"payload": "2"}']


async def test_every_report_gets_its_verdict() -> None:
    results = [{"accepted": True, "reason": None}, {"accepted": False, "reason": "signature_invalid"}]
    async with serving(answering(200, json.dumps({"results": results}).encode())) as (client, url):
        verdicts = await coordinator(client, url).send_reports(ENVELOPES)
    assert verdicts == (
        ReportVerdict(accepted=True, reason=None),
        ReportVerdict(accepted=False, reason=Reason.SIGNATURE_INVALID),
    )


async def test_a_reason_that_a_newer_coordinator_invented_is_no_reason_to_fail() -> None:
    results = [{"accepted": False, "reason": "moon_phase"}] * 2
    async with serving(answering(200, json.dumps({"results": results}).encode())) as (client, url):
        verdicts = await coordinator(client, url).send_reports(ENVELOPES)
    assert [verdict.reason for verdict in verdicts] == [None, None]


@pytest.mark.parametrize(
    "app",
    [
        answering(200, b"not json"),
        answering(200, b"[]"),
        answering(200, b'{"results": []}'),
        answering(200, b'{"results": [1, 2]}'),
        answering(200, b" " * (MAX_ANSWER_BYTES + 1)),
        answering(429, b'{"reason": null, "message": "later"}'),
        answering(503, b"<html>bad gateway</html>"),
    ],
)
async def test_what_may_pass_is_tried_again(app: App) -> None:
    async with serving(app) as (client, url):
        with pytest.raises(CoordinatorUnavailable):
            await coordinator(client, url).send_reports(ENVELOPES)


async def test_a_refusal_carries_its_reason() -> None:
    body = b'{"reason": "certificate_expired", "message": "enrol again"}'
    async with serving(answering(403, body)) as (client, url):
        with pytest.raises(Refused, match="enrol again") as refusal:
            await coordinator(client, url).renew_certificate(b"{}")
    assert refusal.value.reason is Reason.CERTIFICATE_EXPIRED


async def test_a_change_is_told_by_its_version() -> None:
    async with serving(answering(200, b'{"timestamp": 8}')) as (client, url):
        assert await coordinator(client, url).wait_for_change(7) == 8
