# SPDX-License-Identifier: Apache-2.0
"""The coordinator's HTTP interface: what anyone may fetch or ask, and what only enrolled devices may send.

Handlers read a request, call the service that they were given, and write its answer; they decide nothing.
"""

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import cast

import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from p2pd.host.latest import first_of
from p2pd.host.telemetry import AsgiApp
from seeds.adapters.http_errors import HANDLERS, error, read_json
from seeds.adapters.metrics import CoordinatorMetrics
from seeds.adapters.rate_limit import SourceLimiter
from seeds.adapters.request_counter import RequestCounter
from seeds.adapters.static_files import StaticFiles
from seeds.ports import ChangeFeed, Enrolment, HealthCheck, Refused, ReportIntake
from signing.bounds import MAX_COUNTER, check_count
from signing.codec import Document
from signing.devices import MAX_PEM_BYTES
from signing.envelope import max_envelope_bytes
from signing.errors import BadInput
from signing.many_targets import MAX_NAMES
from signing.reasons import Reason
from signing.renewal import RenewalRequest
from signing.report import Report
from signing.structure import build

MAX_POLL_SECONDS = 60.0
MAX_REPORTS = 100
_NO_STORE = {"cache-control": "no-store"}
_PUBLIC_ROUTES = ("metadata", "targets", "payloads", "changes", "ca.pem", "healthz", "enroll", "renew")

Handler = Callable[[Request], Awaitable[Response]]


def envelope_body_bytes(document: type[Document], count: int = 1) -> int:
    """The largest body that carries `count` envelopes around a `document`."""
    return count * (max_envelope_bytes(document) + 64) + 1_024


MAX_AGENT_BODY_BYTES = envelope_body_bytes(Report, MAX_REPORTS)
_MAX_NAMES_BYTES = MAX_NAMES * 520
_MAX_ENROL_BYTES = 2 * MAX_PEM_BYTES


@dataclass(frozen=True, kw_only=True)
class _EnrolRequest:
    secret: str
    device: str
    csr: str

    def __post_init__(self) -> None:
        check_count("secret", self.secret, 128, least=1)
        check_count("csr", self.csr, MAX_PEM_BYTES, least=1)


def public_app(
    *,
    files: StaticFiles,
    ca_pem: bytes,
    enrolment: Enrolment,
    changes: ChangeFeed,
    health: HealthCheck,
    limiter: SourceLimiter,
    max_long_polls: int,
    metrics: CoordinatorMetrics,
) -> AsgiApp:
    """What the whole world may reach: signed files, the long poll, enrolment and renewal."""
    waiting = trio.CapacityLimiter(max_long_polls)

    async def get_file(request: Request) -> Response:
        serve = getters[request.scope["path"].split("/")[1]]
        response = await serve(request.path_params["name"], request)
        # A name that is not there today may be published tomorrow.
        return response or error(404, None, "there is no such file", {"cache-control": "no-cache"})

    async def post_targets(request: Request) -> Response:
        raw = await read_json(request, _MAX_NAMES_BYTES)
        names = raw.get("names") if isinstance(raw, dict) else None
        is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
        if not isinstance(names, list) or not is_list or not 1 <= len(names) <= MAX_NAMES:
            raise BadInput("request body", f"must be {{'names': [...]}} with 1 to {MAX_NAMES} of them")
        return await files.serve_targets(names)

    async def get_changes(request: Request) -> Response:
        known, seconds = _poll_arguments(request)
        if changes.version > known or seconds == 0:
            return _changed(changes.version)
        try:
            waiting.acquire_nowait()
        except trio.WouldBlock:
            # Nothing is lost: whoever lags behind was answered above, and a status other than 200 makes clients pause.
            raise Refused(Reason.COORDINATOR_UNAVAILABLE) from None
        try:
            with metrics.long_polls.track_inprogress():
                await first_of(partial(changes.newer_than, known), partial(_hang_up, request), seconds=seconds)
        finally:
            waiting.release()
        return _changed(changes.version)

    async def get_ca(_: Request) -> Response:
        return Response(ca_pem, media_type="application/x-pem-file", headers={"cache-control": "no-cache"})

    async def get_health(_: Request) -> Response:
        found = await health.check()
        body = {"healthy": found.healthy, **found.facts}
        return JSONResponse(body, status_code=200 if found.healthy else 503, headers=_NO_STORE)

    async def post_enroll(request: Request) -> Response:
        raw = await read_json(request, _MAX_ENROL_BYTES)
        asked = build(_EnrolRequest, raw, where="enrolment request", ignore_unknown=True)
        answer = await enrolment.enrol(secret=asked.secret, device=asked.device, csr=asked.csr.encode())
        return JSONResponse(asdict(answer), headers=_NO_STORE)

    async def post_renew(request: Request) -> Response:
        raw = await read_json(request, envelope_body_bytes(RenewalRequest))
        return JSONResponse(asdict(await enrolment.renew(json.dumps(raw).encode())), headers=_NO_STORE)

    getters = {"metadata": files.serve_metadata, "targets": files.serve_target, "payloads": files.serve_payload}
    app = Starlette(
        routes=[
            Route("/metadata/{name}", get_file),
            Route("/targets/{name:path}", get_file),
            Route("/targets", post_targets, methods=["POST"]),
            Route("/payloads/{name}", get_file),
            Route("/changes", get_changes),
            Route("/ca.pem", get_ca),
            Route("/healthz", get_health),
            Route("/enroll", _limited(post_enroll, limiter), methods=["POST"]),
            Route("/renew", _limited(post_renew, limiter), methods=["POST"]),
        ],
        exception_handlers=HANDLERS,
    )
    return RequestCounter(cast("AsgiApp", app), metrics, routes=_PUBLIC_ROUTES)


def agent_app(*, reports: ReportIntake, metrics: CoordinatorMetrics) -> AsgiApp:
    """What devices with a certificate may reach. Who they are is said by their envelopes, not by the connection."""

    async def post_reports(request: Request) -> Response:
        raw = await read_json(request, MAX_AGENT_BODY_BYTES)
        envelopes = raw.get("envelopes") if isinstance(raw, dict) else None
        if not isinstance(envelopes, list) or len(envelopes) > MAX_REPORTS:
            raise BadInput("request body", f"must be {{'envelopes': [...]}} with at most {MAX_REPORTS} of them")
        outcomes = await reports.accept([json.dumps(envelope).encode() for envelope in envelopes])
        results = [{"accepted": outcome.accepted, "reason": outcome.reason} for outcome in outcomes]
        return JSONResponse({"results": results}, headers=_NO_STORE)

    app = Starlette(routes=[Route("/reports", post_reports, methods=["POST"])], exception_handlers=HANDLERS)
    return RequestCounter(cast("AsgiApp", app), metrics, routes=("reports",))


def _limited(handler: Handler, limiter: SourceLimiter) -> Handler:
    async def guarded(request: Request) -> Response:
        address = request.client.host if request.client else ""
        seconds = limiter.wait_seconds(address, trio.current_time())
        if seconds > 0:
            refused = Refused(Reason.TOO_MANY_REQUESTS)
            return error(429, refused.reason, str(refused), {"retry-after": str(int(seconds) + 1)})
        return await handler(request)

    return guarded


def _poll_arguments(request: Request) -> tuple[int, float]:
    try:
        known = int(request.query_params.get("timestamp", "0"))
        seconds = float(request.query_params.get("wait", "0"))
    except ValueError:
        raise HTTPException(400, "timestamp and wait must be numbers") from None
    if not 0 <= known <= MAX_COUNTER or not seconds >= 0:
        raise HTTPException(400, "timestamp and wait must not be negative")
    return known, min(seconds, MAX_POLL_SECONDS)


def _changed(version: int) -> Response:
    return JSONResponse({"timestamp": version}, headers=_NO_STORE)


async def _hang_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
