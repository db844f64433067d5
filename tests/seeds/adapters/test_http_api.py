# SPDX-License-Identifier: Apache-2.0
"""The HTTP interface hands requests to services, in bounds, and gives a reason for every refusal."""

import json
from functools import partial
from typing import Any

import httpx
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from seeds.adapters.http_api import MAX_REPORTS
from seeds.adapters.store import StoreUnavailable
from seeds.ports import Health, Refused
from signing.errors import BadInput
from signing.reasons import Reason, explain
from tests.seeds.adapters.conftest import Origin

ENROL = {"secret": "s" * 43, "device": "pc-1", "csr": "PEM"}


async def test_enrolment_passes_through(origin: Origin) -> None:
    answer = await origin.public.post("/enroll", json={**ENROL, "of_a_newer_agent": 1})
    assert answer.status_code == 200
    assert set(answer.json()) == {"device", "segment", "site", "certificate", "segment_ca", "root", "agent_url"}
    assert answer.headers["cache-control"] == "no-store"
    assert origin.desk.asked == [("s" * 43, "pc-1", b"PEM")]


@pytest.mark.parametrize(
    ("problem", "status"),
    [
        (Refused(Reason.TOKEN_EXPIRED), 403),
        (Refused(Reason.DEVICE_NAME_TAKEN), 409),
        (BadInput("certificate signing request", "cannot be read"), 400),
        (StoreUnavailable("coordinator.sqlite: disk I/O error at /srv/secret"), 503),
    ],
)
async def test_refusals_carry_status_reason_and_sentence(origin: Origin, problem: Any, status: int) -> None:
    origin.desk.problem = problem
    answer = await origin.public.post("/enroll", json=ENROL)
    assert answer.status_code == status
    if isinstance(problem, StoreUnavailable):
        assert answer.json()["reason"] == Reason.COORDINATOR_UNAVAILABLE
        assert answer.headers["retry-after"] == "5"
        assert "secret" not in answer.text
    else:
        assert answer.json() == {"reason": problem.reason, "message": str(problem)}


async def test_a_bug_of_ours_says_nothing_about_itself(origin: Origin) -> None:
    origin.desk.problem = RuntimeError("internals")
    answer = await origin.public.post("/enroll", json=ENROL)
    assert (answer.status_code, answer.json()) == (500, {"reason": None, "message": "internal error"})


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'"text"', b"null", b"[" * 30_000, b"\xff", json.dumps({**ENROL, "csr": 1}).encode(), b"{}"],
)
async def test_bodies_that_make_no_sense_are_refused(origin: Origin, body: bytes) -> None:
    answer = await origin.public.post("/enroll", content=body)
    assert answer.status_code == 400
    assert answer.json()["reason"] == Reason.DOCUMENT_MALFORMED
    assert origin.desk.asked == []


async def test_large_bodies_are_refused_unread(origin: Origin) -> None:
    for path, client in (("/enroll", origin.public), ("/renew", origin.public), ("/reports", origin.agent)):
        answer = await client.post(path, content=b"x" * 6_000_000)
        assert answer.status_code == 413
        assert answer.json() == {
            "reason": Reason.REQUEST_TOO_LARGE,
            "message": explain(Reason.REQUEST_TOO_LARGE),
        }


async def test_a_body_that_grows_beyond_its_bound_is_cut_off(origin: Origin) -> None:
    taken, said = 0, []

    async def receive() -> dict[str, Any]:
        nonlocal taken
        await trio.lowlevel.checkpoint()
        taken += 10_000
        return {"type": "http.request", "body": b"x" * 10_000, "more_body": True}

    async def send(message: Any) -> None:
        said.append(message)

    await origin.public_app(scope("POST", "/enroll"), receive, send)
    assert said[0]["status"] == 413
    assert taken < 100_000


async def test_one_source_cannot_enrol_without_end(origin: Origin) -> None:
    statuses = [(await origin.public.post("/enroll", json=ENROL)).status_code for _ in range(4)]
    assert statuses == [200, 200, 200, 429]
    answer = await origin.public.post("/renew", json={})
    assert answer.status_code == 429
    assert answer.json()["reason"] == Reason.TOO_MANY_REQUESTS
    assert int(answer.headers["retry-after"]) > 0


async def test_renewal_passes_the_envelope_through(origin: Origin) -> None:
    answer = await origin.public.post("/renew", json={"payload": "p"})
    assert answer.json() == {"device": "pc-1", "segment": "office", "certificate": "C", "segment_ca": "A"}
    assert [json.loads(envelope) for envelope in origin.desk.asked] == [{"payload": "p"}]


async def test_reports_are_answered_one_by_one(origin: Origin) -> None:
    answer = await origin.agent.post("/reports", json={"envelopes": [{"n": 1}, {"n": 2}]})
    assert answer.json() == {"results": [{"accepted": True, "reason": None}] * 2}
    assert [json.loads(envelope) for envelope in origin.desk.asked[0]] == [{"n": 1}, {"n": 2}]


@pytest.mark.parametrize("body", [{}, {"envelopes": {}}, {"envelopes": [{}] * (MAX_REPORTS + 1)}, []])
async def test_batches_out_of_bounds_are_refused(origin: Origin, body: Any) -> None:
    answer = await origin.agent.post("/reports", json=body)
    assert (answer.status_code, answer.json()["reason"]) == (400, Reason.DOCUMENT_MALFORMED)
    assert origin.desk.asked == []


async def test_the_agents_listener_has_nothing_else(origin: Origin) -> None:
    for path in ("/enroll", "/metadata/timestamp.json", "/healthz"):
        assert (await origin.agent.get(path)).status_code == 404
    answer = await origin.agent.get("/reports")
    assert (answer.status_code, answer.json()) == (405, {"reason": None, "message": "Method Not Allowed"})


async def test_health_is_a_status_too(origin: Origin) -> None:
    answer = await origin.public.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"healthy": True, "database": "ok"})
    origin.desk.health = Health(healthy=False, facts={"database": "unavailable"})
    assert (await origin.public.get("/healthz")).status_code == 503


async def test_the_authority_is_served_as_it_is(origin: Origin) -> None:
    assert (await origin.public.get("/ca.pem")).content == b"the authority"


async def test_a_change_that_happened_already_is_told_at_once(origin: Origin) -> None:
    answer = await origin.public.get("/changes", params={"timestamp": 4, "wait": 60})
    assert answer.json() == {"timestamp": 5}


async def test_who_asks_again_and_again_is_answered_at_once_and_by_us(
    origin: Origin, frozen_clock: MockClock, nursery: trio.Nursery
) -> None:
    for _ in range(20):  # time stands still: an answer that had to be waited for would never come
        answer = await origin.public.get("/changes", params={"timestamp": 4, "wait": 60})
        assert (answer.json(), answer.headers["cache-control"]) == ({"timestamp": 5}, "no-store")
    waiting = Polls(origin, nursery)
    waiting.ask(timestamp=5, wait=60)
    await wait_all_tasks_blocked()
    origin.changes.announce(6)
    await wait_all_tasks_blocked()
    assert [answer.headers["cache-control"] for answer in waiting.answers] == ["no-store"]
    refused = await origin.public.get("/changes", params={"timestamp": "x"})
    assert refused.headers["cache-control"] == "no-store"


async def test_a_waiting_request_is_woken_by_a_change(
    origin: Origin, frozen_clock: MockClock, nursery: trio.Nursery
) -> None:
    waiting = Polls(origin, nursery)
    waiting.ask(timestamp=5, wait=60)
    await wait_all_tasks_blocked()
    assert (waiting.answers, origin.count("seeds_long_polls")) == ([], 1)

    origin.changes.announce(6)
    await wait_all_tasks_blocked()
    assert [answer.json() for answer in waiting.answers] == [{"timestamp": 6}]
    assert origin.count("seeds_long_polls") == 0


async def test_without_a_change_it_is_answered_in_the_end(
    origin: Origin, frozen_clock: MockClock, nursery: trio.Nursery
) -> None:
    waiting = Polls(origin, nursery)
    waiting.ask(timestamp=5, wait=3_600)  # more than we grant
    await wait_all_tasks_blocked()
    frozen_clock.jump(59)
    await wait_all_tasks_blocked()
    assert waiting.answers == []
    frozen_clock.jump(1)
    await wait_all_tasks_blocked()
    assert [answer.json() for answer in waiting.answers] == [{"timestamp": 5}]


async def test_more_waiting_requests_than_there_is_room_for_are_sent_away_for_a_while(
    origin: Origin, nursery: trio.Nursery
) -> None:
    waiting = Polls(origin, nursery)
    for _ in range(3):
        waiting.ask(timestamp=5, wait=60)
    await wait_all_tasks_blocked()
    (answer,) = waiting.answers
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["reason"] == Reason.COORDINATOR_UNAVAILABLE
    waiting.ask(timestamp=4, wait=60)  # who lags behind is answered all the same
    await wait_all_tasks_blocked()
    assert waiting.answers[1].json() == {"timestamp": 5}
    origin.changes.announce(6)
    await wait_all_tasks_blocked()
    assert [answer.json() for answer in waiting.answers[2:]] == [{"timestamp": 6}] * 2


async def test_who_hangs_up_leaves_room_for_another(origin: Origin, nursery: trio.Nursery) -> None:
    leave = trio.Event()

    async def receive() -> dict[str, Any]:
        await leave.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        await trio.lowlevel.checkpoint()

    asked = scope("GET", "/changes", b"timestamp=5&wait=60")
    nursery.start_soon(partial(origin.public_app, asked, receive, send))
    await wait_all_tasks_blocked()
    assert origin.count("seeds_long_polls") == 1
    leave.set()
    await wait_all_tasks_blocked()
    assert origin.count("seeds_long_polls") == 0


@pytest.mark.parametrize(
    "question", [{"timestamp": "x"}, {"timestamp": -1}, {"wait": -1}, {"wait": "nan"}, {"timestamp": 2**60}]
)
async def test_nonsense_in_the_query_is_refused(origin: Origin, question: Any) -> None:
    answer = await origin.public.get("/changes", params=question)
    assert (answer.status_code, answer.json()["reason"]) == (400, None)


def scope(method: str, path: str, query: bytes = b"") -> dict[str, Any]:
    """A request as the ASGI server hands it over."""
    return {"type": "http", "method": method, "path": path, "query_string": query, "headers": []}


class Polls:
    """Long polls under way, and their answers as they come."""

    def __init__(self, origin: Origin, nursery: trio.Nursery) -> None:
        self.answers: list[httpx.Response] = []
        self._origin = origin
        self._nursery = nursery

    def ask(self, **question: int) -> None:
        self._nursery.start_soon(self._ask, question)

    async def _ask(self, question: dict[str, int]) -> None:
        self.answers.append(await self._origin.public.get("/changes", params=question, timeout=None))
