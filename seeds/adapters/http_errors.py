# SPDX-License-Identifier: Apache-2.0
"""Requests to values and errors to answers: `{"reason": code, "message": sentence}` whatever goes wrong."""

import json
from contextlib import aclosing
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from seeds.adapters.store import StoreUnavailable
from seeds.ports import Refused
from signing.errors import BadInput, SigningError
from signing.reasons import Reason, explain

_STATUS = {
    Reason.DEVICE_NAME_TAKEN: 409,
    Reason.SITE_FULL: 409,
    Reason.REQUEST_TOO_LARGE: 413,
    Reason.TOO_MANY_REQUESTS: 429,
    Reason.COORDINATOR_UNAVAILABLE: 503,
}
RETRY_SECONDS = 5


def error(status: int, reason: Reason | None, message: str, headers: dict[str, str] | None = None) -> Response:
    """An answer that says why not."""
    headers = {"cache-control": "no-store", **(headers or {})}
    return JSONResponse({"reason": reason, "message": message}, status_code=status, headers=headers)


async def read_json(request: Request, max_bytes: int) -> Any:
    """The body of `request` as JSON, at most `max_bytes` of it. Raises Refused or BadInput."""
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared) > max_bytes:
        raise Refused(Reason.REQUEST_TOO_LARGE)
    body = bytearray()
    async with aclosing(request.stream()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > max_bytes:
                raise Refused(Reason.REQUEST_TOO_LARGE)
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as problem:
        raise BadInput("request body", f"is not JSON ({type(problem).__name__})") from None


async def _refused(_: Request, problem: Exception) -> Response:
    reason = problem.reason if isinstance(problem, Refused) else Reason.COORDINATOR_UNAVAILABLE
    status = _STATUS.get(reason, 403)
    headers = {"retry-after": str(RETRY_SECONDS)} if status in (429, 503) else None
    return error(status, reason, str(problem), headers)


async def _signing_error(_: Request, problem: Exception) -> Response:
    reason = problem.reason if isinstance(problem, SigningError) else None
    return error(400 if isinstance(problem, BadInput) else 403, reason, str(problem))


async def _unavailable(_: Request, problem: Exception) -> Response:
    # What ails the database is for our log and metrics, not for whoever asks.
    reason = Reason.COORDINATOR_UNAVAILABLE
    return error(503, reason, explain(reason), {"retry-after": str(RETRY_SECONDS)})


async def _http_error(_: Request, problem: Exception) -> Response:
    status, detail, headers = 500, "internal error", None
    if isinstance(problem, HTTPException):
        status, detail, headers = problem.status_code, problem.detail, dict(problem.headers or {})
    return error(status, None, detail, headers)


HANDLERS: dict[Any, Any] = {
    Refused: _refused,
    SigningError: _signing_error,
    StoreUnavailable: _unavailable,
    HTTPException: _http_error,
    Exception: _http_error,
}
