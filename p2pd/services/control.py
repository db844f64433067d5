# SPDX-License-Identifier: Apache-2.0
"""Answers `p2pd status`, `peers`, `why` and `verify` from what the daemon knows now."""

from collections.abc import Mapping
from typing import Any

from p2pd.decisions.eligibility import Refusal
from p2pd.host.wall_clock import WallClock
from p2pd.ports import InstalledProduct
from p2pd.services.carrying import Carriages
from p2pd.services.releases import Releases
from p2pd.services.site import Board, Identity, Peer, Why
from signing.errors import BadInput
from signing.reasons import explain


class Control:
    """The verbs of the daemon's Unix socket. Arguments come from outside: each is checked here."""

    def __init__(
        self, board: Board, releases: Releases, carriages: Carriages, identity: Identity, clock: WallClock
    ) -> None:
        self._board = board
        self._releases = releases
        self._carriages = carriages
        self._identity = identity
        self._clock = clock

    async def handle(self, verb: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Answer one request. Raises BadInput."""
        if verb == "status":
            return self._status()
        if verb == "peers":
            return {"peers": [self._peer(peer) for peer in self._board.peers.value.values()]}
        if verb == "why":
            problems = (self._board.metadata_problem.value, self._board.installer_problem.value)
            return {
                "releases": self._why(_text(arguments, "patch", "")),
                "problems": [_refusal(problem) for problem in problems if problem is not None],
            }
        if verb == "verify":
            return self._verify(_text(arguments, "sha256"), arguments.get("size"))
        raise BadInput("request", f"unknown verb {verb!r}", "this p2pd answers status, peers, why and verify")

    def _status(self) -> dict[str, Any]:
        trusted = self._board.trusted.value
        records = self._releases.records()
        products = self._releases.installed()
        metadata: dict[str, Any] = {"problem": _refusal(self._board.metadata_problem.value)}
        if trusted is not None:
            metadata["timestamp_version"] = trusted.timestamp_version
            metadata["policy_version"] = trusted.policy.version
            metadata["expires"] = {role: when.isoformat() for role, when in trusted.expiries.items()}
        return {
            "device": self._identity.device,
            "segment": self._identity.segment,
            "site": self._identity.site,
            "time": self._clock.now().isoformat(),
            "metadata": metadata,
            "installer": {"problem": _refusal(self._board.installer_problem.value)},
            "peers": len(self._board.peers.value),
            "products": [
                self._product(name, products.get(name), records) for name in sorted(set(products) | set(records))
            ],
        }

    def _product(self, name: str, installed: InstalledProduct | None, records: Mapping[str, Any]) -> dict[str, Any]:
        attempt = records[name].attempt if name in records else None
        active = installed.active if installed is not None else None
        previous = installed.previous if installed is not None else None
        answer: dict[str, Any] = {
            "product": name,
            "version": active.version if active else None,
            "previous_version": previous.version if previous else None,
            "attempt": None,
        }
        if attempt is not None:
            carriage = next(
                (
                    c
                    for c in map(self._carriages.find, self._carriages.digests)
                    if c is not None and c.release.manifest.sha256 == attempt.manifest_sha256
                ),
                None,
            )
            answer["attempt"] = {
                "version": attempt.version,
                "state": attempt.state.value,
                "reason": attempt.reason.value if attempt.reason else None,
                "detail": attempt.detail,
                "bytes_lan": carriage.received.lan if carriage else attempt.bytes_lan,
                "bytes_origin": carriage.received.origin if carriage else attempt.bytes_origin,
                "bytes_web": carriage.received.web if carriage else attempt.bytes_web,
                "payload_bytes": carriage.release.transport.content.size if carriage else None,
                "seconds": attempt.seconds,
            }
        return answer

    def _peer(self, peer: Peer) -> dict[str, Any]:
        return {
            "device": peer.device,
            "address": peer.endpoint.host,
            "port": peer.endpoint.port,
            "shares": len(peer.info_hashes),
            "other_metadata": peer.has_other_state,
        }

    def _why(self, patch: str) -> list[dict[str, Any]]:
        """`patch` is empty, PRODUCT, or PRODUCT@VERSION."""
        product, _, version = patch.partition("@")
        return [
            self._describe(sha256, why)
            for sha256, why in self._board.why.value.items()
            if product in ("", why.product) and version in ("", why.version)
        ]

    def _describe(self, sha256: str, why: Why) -> dict[str, Any]:
        reason, detail = (why.refusal.reason, why.refusal.detail) if why.refusal else (None, "")
        waiting = next(
            (
                carriage.received.waiting.value
                for carriage in map(self._carriages.find, self._carriages.digests)
                if carriage is not None and carriage.release.manifest.sha256 == sha256
            ),
            None,
        )
        if reason is None:
            reason = waiting
        return {
            "product": why.product,
            "version": why.version,
            "state": why.state,
            "reason": reason.value if reason else None,
            "sentence": explain(reason) if reason else "",
            "detail": detail,
        }

    def _verify(self, sha256: str, size: object) -> dict[str, Any]:
        """Which verified release a file with that digest belongs to; the caller has hashed it."""
        trusted = self._board.trusted.value
        for verified in trusted.manifests if trusted is not None else ():
            manifest = verified.manifest
            roles = {verified.sha256: "manifest", manifest.payload.sha256: "payload"}
            roles |= {transport.content.sha256: "transport" for transport in manifest.transports}
            if sha256 in roles:
                recall = trusted.recalls.withdraws(verified.sha256) if trusted is not None else None
                return {
                    "match": roles[sha256],
                    "product": manifest.product,
                    "version": manifest.version,
                    "recalled": recall.why if recall else None,
                }
        return {"match": None, "size": size}


def _text(arguments: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = arguments.get(name, default)
    if not isinstance(value, str):
        raise BadInput("request", f"argument {name!r} must be a text")
    return value


def _refusal(refusal: Refusal | None) -> dict[str, str] | None:
    if refusal is None:
        return None
    return {"reason": refusal.reason.value, "sentence": explain(refusal.reason), "detail": refusal.detail}
