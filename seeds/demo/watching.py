# SPDX-License-Identifier: Apache-2.0
"""What the audience sees of the agents, asked from the daemons themselves while things happen."""

from dataclasses import dataclass
from typing import Any

from p2pd.host.control_socket import ControlRefused, ControlUnreachable, request
from seeds.demo.processes import AgentHome


@dataclass(frozen=True, kw_only=True)
class AgentSight:
    """One agent as it is now, as far as one product goes."""

    name: str
    peers: int
    installed: str | None
    version: str | None  # of the newest attempt
    state: str  # of the newest attempt
    reason: str | None
    detail: str
    bytes_lan: int
    bytes_origin: int
    payload_bytes: int | None
    seconds: float

    @property
    def share(self) -> float:
        """How much of the payload has come, 0 to 1."""
        if self.state not in ("fetching", "waiting"):
            return 1.0
        return min(1.0, (self.bytes_lan + self.bytes_origin) / self.payload_bytes) if self.payload_bytes else 0.0


async def look_at(home: AgentHome, product: str) -> AgentSight:
    """Ask a daemon. One that does not answer is shown as such: it may just be starting."""
    try:
        answer = await request(home.control_socket, "status", timeout_seconds=5)
    except (ControlUnreachable, ControlRefused) as problem:
        return _sight(home.name, 0, None, {"state": "unreachable", "detail": str(problem)})
    entry = next((entry for entry in answer["products"] if entry["product"] == product), None)
    attempt = entry["attempt"] if entry is not None else None
    return _sight(home.name, answer["peers"], entry["version"] if entry else None, attempt or {"state": "waiting"})


async def why_not(home: AgentHome, product: str, version: str) -> str | None:
    """The reason code that a daemon gives for one release, or None."""
    try:
        answer = await request(home.control_socket, "why", {"patch": f"{product}@{version}"}, timeout_seconds=5)
    except (ControlUnreachable, ControlRefused):
        return None
    return next((release["reason"] for release in answer["releases"]), None)


def _sight(name: str, peers: int, installed: str | None, attempt: dict[str, Any]) -> AgentSight:
    return AgentSight(
        name=name,
        peers=peers,
        installed=installed,
        version=attempt.get("version"),
        state=attempt["state"],
        reason=attempt.get("reason"),
        detail=attempt.get("detail", ""),
        bytes_lan=attempt.get("bytes_lan", 0),
        bytes_origin=attempt.get("bytes_origin", 0) + attempt.get("bytes_web", 0),
        payload_bytes=attempt.get("payload_bytes"),
        seconds=attempt.get("seconds", 0.0),
    )
