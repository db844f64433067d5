# SPDX-License-Identifier: Apache-2.0
"""Answers `p2pd status`, `peers`, `why` and `verify` from what the daemon knows now."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from p2pd.decisions.eligibility import Refusal
from p2pd.decisions.network_gates import Passage
from p2pd.host.wall_clock import WallClock
from p2pd.ports import InstalledProduct
from p2pd.ports_control import ProductRecord
from p2pd.services.carrying import Carriage, Carriages
from p2pd.services.releases import Releases
from p2pd.services.site import Board, Identity, Peer, Why
from p2pd.services.small_payloads import SmallCarriage, SmallPayloads
from signing.errors import BadInput
from signing.reasons import explain
from signing.report import InstallState

UnderWay = Mapping[str, Sequence[Carriage | SmallCarriage]]
"""Carriages by the manifest that they are about; several when a release comes by more than one transport."""


class Control:
    """The verbs of the daemon's Unix socket. Arguments come from outside: each is checked here."""

    def __init__(
        self,
        board: Board,
        releases: Releases,
        carriages: Carriages,
        small: SmallPayloads,
        identity: Identity,
        clock: WallClock,
    ) -> None:
        self._board = board
        self._releases = releases
        self._carriages = carriages
        self._small = small
        self._identity = identity
        self._clock = clock

    async def handle(self, verb: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Answer one request. Raises BadInput."""
        if verb == "status":
            return self._status()
        if verb == "peers":
            return {"peers": [self._peer(peer) for peer in self._board.peers.value.values()]}
        if verb == "why":
            board = self._board
            problems = (
                board.network_problem.value,
                board.metadata_problem.value,
                board.installer_problem.value,
                _closed(board.passage.value),
            )
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
        under_way = self._under_way()
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
            "network": {
                "addresses": self._board.here.value.hosts,
                "problem": _refusal(self._board.network_problem.value or _closed(self._board.passage.value)),
            },
            "installer": {"problem": _refusal(self._board.installer_problem.value)},
            "peers": len(self._board.peers.value),
            "products": [
                _product(name, products.get(name), records.get(name), under_way)
                for name in sorted(set(products) | set(records))
            ],
        }

    def _under_way(self) -> UnderWay:
        """All carriages, by manifest; those that are not finished first."""
        small = map(self._small.find, self._small.digests)
        torrents = map(self._carriages.find, self._carriages.digests)
        by_manifest: dict[str, list[Carriage | SmallCarriage]] = defaultdict(list)
        for found in (*small, *torrents):
            if found is not None:
                by_manifest[found.release.manifest.sha256].append(found)
        for carriages in by_manifest.values():
            carriages.sort(key=lambda carriage: carriage.finished.is_set())
        return by_manifest

    def _peer(self, peer: Peer) -> dict[str, Any]:
        return {
            "device": peer.device,
            "address": peer.endpoint.host,
            "port": peer.endpoint.port,
            "shares": len(peer.info_hashes),
            "other_metadata": peer.has_other_state,
            **self._links(peer.device),
        }

    def _links(self, device: str) -> dict[str, Any]:
        """What there is between this endpoint and that one, over all torrents that both carry."""
        links = [found[device] for found in self._board.links.value.values() if device in found]
        connected = [link for link in links if link.is_connected]
        # A connection tells more than the lack of one; and of what is held against a peer, the longest ban.
        reasons = sorted((link for link in connected or links if link.reason), key=lambda link: link.until or 0.0)
        reason = reasons[-1].reason if reasons else None
        latency = self._board.latency.get(device)
        return {
            "torrents": len(links),
            "connected": len(connected),
            "reason": reason.value if reason else None,
            "sentence": explain(reason) if reason else "",
            "latency_ms": round(latency * 1_000, 3) if latency is not None else None,
            "bytes_in": sum(link.bytes_in for link in links),
            "bytes_out": sum(link.bytes_out for link in links),
        }

    def _why(self, patch: str) -> list[dict[str, Any]]:
        """`patch` is empty, PRODUCT, or PRODUCT@VERSION."""
        product, _, version = patch.partition("@")
        under_way = self._under_way()
        return [
            _describe(why, under_way.get(sha256, ()))
            for sha256, why in self._board.why.value.items()
            if product in ("", why.product) and version in ("", why.version)
        ]

    def _verify(self, sha256: str, size: object) -> dict[str, Any]:
        """Which verified release a file with that digest belongs to; the caller has hashed it."""
        trusted = self._board.trusted.value
        for verified in trusted.manifests if trusted is not None else ():
            manifest = verified.manifest
            roles = {verified.sha256: "manifest", manifest.payload.sha256: "payload"}
            roles |= {transport.content.sha256: "transport" for transport in manifest.transports}
            roles |= {delta.content.sha256: "delta" for delta in manifest.deltas}
            if sha256 in roles:
                recall = trusted.recalls.withdraws(verified.sha256) if trusted is not None else None
                return {
                    "match": roles[sha256],
                    "product": manifest.product,
                    "version": manifest.version,
                    "recalled": recall.why if recall else None,
                }
        return {"match": None, "size": size}


def _product(
    name: str, installed: InstalledProduct | None, record: ProductRecord | None, under_way: UnderWay
) -> dict[str, Any]:
    attempt = record.attempt if record is not None else None
    active = installed.active if installed is not None else None
    previous = installed.previous if installed is not None else None
    answer: dict[str, Any] = {
        "product": name,
        "version": active.version if active else None,
        "previous_version": previous.version if previous else None,
        "attempt": None,
    }
    if attempt is not None:
        carriages = under_way.get(attempt.manifest_sha256, ())
        used = next((c for c in carriages if c.digest == attempt.transport_sha256), next(iter(carriages), None))
        # What this daemon has counted, or what one before it had.
        received = [carriage.received for carriage in carriages]
        waiting = used.received.waiting.value if used and attempt.state is InstallState.FETCHING else None
        reason = attempt.reason or waiting
        answer["attempt"] = {
            "version": attempt.version,
            "state": attempt.state.value,
            "reason": reason.value if reason else None,
            "detail": attempt.detail,
            "bytes_lan": max(attempt.bytes_lan, sum(got.lan for got in received)),
            "bytes_origin": max(attempt.bytes_origin, sum(got.origin for got in received)),
            "bytes_web": max(attempt.bytes_web, sum(got.web for got in received)),
            "payload_bytes": used.release.transport.content.size if used else None,
            "codec": used.release.transport.codec if used else None,
            "seconds": attempt.seconds,
        }
    return answer


def _describe(why: Why, carriages: Sequence[Carriage | SmallCarriage]) -> dict[str, Any]:
    reason, detail = (why.refusal.reason, why.refusal.detail) if why.refusal else (None, "")
    if reason is None and carriages:
        reason = carriages[0].received.waiting.value
    return {
        "product": why.product,
        "version": why.version,
        "state": why.state,
        "reason": reason.value if reason else None,
        "sentence": explain(reason) if reason else "",
        "detail": detail,
    }


def _text(arguments: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = arguments.get(name, default)
    if not isinstance(value, str):
        raise BadInput("request", f"argument {name!r} must be a text")
    return value


def _closed(passage: Passage) -> Refusal | None:
    """What this endpoint does not do on the network and the power that it has now."""
    reason = passage.reason or passage.upload_reason
    if reason is None:
        return None
    closed = {
        "nothing is fetched from the origin": passage.may_fetch,
        "nothing is fetched from peers": passage.may_download,
        "nothing is sent to peers": passage.may_upload,
    }
    return Refusal(reason=reason, detail=", ".join(what for what, is_open in closed.items() if not is_open))


def _refusal(refusal: Refusal | None) -> dict[str, str] | None:
    if refusal is None:
        return None
    return {"reason": refusal.reason.value, "sentence": explain(refusal.reason), "detail": refusal.detail}
