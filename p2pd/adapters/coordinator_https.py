# SPDX-License-Identifier: Apache-2.0
"""The coordinator's HTTP interface, as the agent speaks it."""

import json
from collections.abc import Sequence
from typing import Any

import httpx

from p2pd.adapters.http_chunks import raw_chunks, words_of
from p2pd.ports_control import CoordinatorUnavailable, Refused, ReportVerdict
from signing.reasons import Reason

POLL_SECONDS = 50.0  # the server answers by then at the latest; below the idle limits of usual proxies (60 s)
ANSWER_SECONDS = 30.0
MAX_ANSWER_BYTES = 262_144
_SERVER_ERROR = 500
_TOO_MANY_REQUESTS = 429
_OK = 200


class CoordinatorHttps:
    """Implements `p2pd.ports_control.Coordinator`.

    `public` knows the coordinator's authority; `agent` shows the device certificate as well, and is asked for anew each
    time, since a renewal replaces it.
    """

    def __init__(self, public: httpx.AsyncClient, agent: "AgentClient", *, url: str, agent_url: str) -> None:
        self._public = public
        self._agent = agent
        self._url = url.rstrip("/")
        self._agent_url = agent_url.rstrip("/")

    async def wait_for_change(self, timestamp_version: int) -> int:
        """The newest timestamp version, at once when it is newer, else after the server's wait."""
        answer = await _ask(
            self._public,
            "GET",
            f"{self._url}/changes?timestamp={timestamp_version}&wait={POLL_SECONDS:g}",
            timeout=POLL_SECONDS + ANSWER_SECONDS,
        )
        version = answer.get("timestamp")
        if not isinstance(version, int):
            raise CoordinatorUnavailable("the answer to /changes has no timestamp")
        return version

    async def send_reports(self, envelopes: Sequence[bytes]) -> tuple[ReportVerdict, ...]:
        """Hand over signed reports; one verdict each, in order."""
        body = {"envelopes": [json.loads(envelope) for envelope in envelopes]}
        answer = await _ask(self._agent.client, "POST", f"{self._agent_url}/reports", body=body)
        results = answer.get("results")
        if not isinstance(results, list) or len(results) != len(envelopes):
            raise CoordinatorUnavailable("the answer to /reports does not match the reports")
        return tuple(_verdict(result) for result in results)

    async def renew_certificate(self, envelope: bytes) -> bytes:
        """A new device certificate in PEM. Raises Refused or CoordinatorUnavailable."""
        answer = await _ask(self._public, "POST", f"{self._url}/renew", body=json.loads(envelope))
        certificate = answer.get("certificate")
        if not isinstance(certificate, str):
            raise CoordinatorUnavailable("the answer to /renew has no certificate")
        return certificate.encode()


class AgentClient:
    """The HTTP client that shows the device certificate; `replace` swaps it after a renewal."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def replace(self, client: httpx.AsyncClient) -> None:
        """Use `client` from now on and close the one before."""
        before, self.client = self.client, client
        await before.aclose()

    async def aclose(self) -> None:
        """Close the client in use."""
        await self.client.aclose()


async def post_json(client: httpx.AsyncClient, url: str, body: dict[str, Any]) -> dict[str, Any]:
    """POST and read the answer. Raises Refused or CoordinatorUnavailable."""
    return await _ask(client, "POST", url, body=body)


async def _ask(
    client: httpx.AsyncClient,
    method: str,
    url: str,
    *,
    body: dict[str, Any] | None = None,
    timeout: float = ANSWER_SECONDS,  # noqa: ASYNC109 (httpx applies it to each read)
) -> dict[str, Any]:
    try:
        async with client.stream(method, url, json=body, timeout=timeout) as response:
            data = bytearray()
            async with raw_chunks(response) as chunks:
                async for chunk in chunks:
                    data += chunk
                    if len(data) > MAX_ANSWER_BYTES:
                        raise CoordinatorUnavailable(f"{url}: the answer is longer than {MAX_ANSWER_BYTES} bytes")
    except (httpx.HTTPError, RuntimeError) as problem:
        # RuntimeError: the client was closed by a renewal while we waited; the next call uses the new one.
        raise CoordinatorUnavailable(f"{url}: {words_of(problem)}") from problem
    try:
        answer = json.loads(bytes(data))
    except ValueError:
        answer = None
    if response.status_code == _OK and isinstance(answer, dict):
        return answer
    told = answer if isinstance(answer, dict) else {}
    message = f"{url}: {told.get('message') or f'HTTP {response.status_code}'}"
    if response.status_code >= _SERVER_ERROR or response.status_code in (_OK, _TOO_MANY_REQUESTS):
        raise CoordinatorUnavailable(message)
    raise Refused(_reason(told.get("reason")), message)


def _verdict(result: Any) -> ReportVerdict:
    if not isinstance(result, dict) or not isinstance(result.get("accepted"), bool):
        raise CoordinatorUnavailable("the answer to /reports cannot be read")
    return ReportVerdict(accepted=result["accepted"], reason=_reason(result.get("reason")))


def _reason(code: object) -> Reason | None:
    """A newer coordinator may know more codes than we do."""
    try:
        return Reason(str(code))
    except ValueError:
        return None
