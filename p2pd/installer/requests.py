# SPDX-License-Identifier: Apache-2.0
"""The verbs of p2pd-install: what may be asked over its socket, and what is answered.

    status   {product}                              a product's releases and phase; without `product`, every one's
    install  {product, version, mirror, transport}  verify, bring in, put on probation
    commit   {product, manifest_sha256}             it has proved itself
    rollback {product, manifest_sha256, mirror}     back to the release before; `mirror` (optional) may tell of recalls

All but `status` may be repeated: what is done already is answered like what was done just now, and a repeat of what is
under way gets its answer. Requests for one product are carried out one after the other; `busy` when too many wait.

`phase` in `status` is what the journal holds, whether or not a request is under way:
    idle          `active` is committed, and `pending` is null
    probation     `active`, which is `pending` too, waits for its commit or rollback, for ever if nobody asks; a newer
                  release may be installed over it
    installing    `pending` is on its way in, and `active` is what it was before (committed, or an older candidate)
    rolling_back  `active`, which is `pending` too, is on its way out
The last two without a request under way are work that a fault cut off: the next request for the product settles it.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import trio

from p2pd.host.control_socket import ControlRefused
from p2pd.host.telemetry import log
from p2pd.installer.journal import ProductRecord, Release
from p2pd.installer.products import Products
from p2pd.installer.refusal import InstallRefused, refusing
from p2pd.installer.turns import Turns
from p2pd.installer.verification import Verifier
from signing.bounds import check_count, check_product, check_sha256, check_version
from signing.errors import BadInput, SigningError
from signing.structure import build

MAX_PATH_CHARS = 4_096  # PATH_MAX
VERBS = ("status", "install", "commit", "rollback")

_log = log(__name__)

A = TypeVar("A")


@dataclass(frozen=True, kw_only=True)
class StatusArguments:
    """One product, or all of them."""

    product: str | None = None

    def __post_init__(self) -> None:
        if self.product is not None:
            check_product("product", self.product)


@dataclass(frozen=True, kw_only=True)
class InstallArguments:
    """A release by name, a directory of signed metadata, and the file that claims to be its transport."""

    product: str
    version: str
    mirror: str
    transport: str

    def __post_init__(self) -> None:
        check_product("product", self.product)
        check_version("version", self.version)
        for field in ("mirror", "transport"):
            _check_path(field, getattr(self, field))


@dataclass(frozen=True, kw_only=True)
class CommitArguments:
    """A release that is installed, by its manifest."""

    product: str
    manifest_sha256: str

    def __post_init__(self) -> None:
        check_product("product", self.product)
        check_sha256("manifest_sha256", self.manifest_sha256)


@dataclass(frozen=True, kw_only=True)
class RollbackArguments:
    """A release that is installed, by its manifest, and a directory of signed metadata that may tell of recalls."""

    product: str
    manifest_sha256: str
    mirror: str | None = None

    def __post_init__(self) -> None:
        check_product("product", self.product)
        check_sha256("manifest_sha256", self.manifest_sha256)
        if self.mirror is not None:
            _check_path("mirror", self.mirror)


_Request = InstallArguments | CommitArguments | RollbackArguments


class InstallRequests:
    """Answers requests by worker threads. A thread runs to its end, whoever loses patience: what it does is whole
    or undone, and a kill in its middle is recovered from at the next start.
    """

    def __init__(self, products: Products, verifier: Verifier) -> None:
        self._products = products
        self._verifier = verifier
        self._turns = Turns()

    async def handle(self, verb: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """The answer to one request. Raises ControlRefused or SigningError, each with a reason."""
        try:
            match verb:
                case "status":
                    status = _read(StatusArguments, verb, arguments)
                    return await trio.to_thread.run_sync(self._status, status)  # does not wait for anybody's turn
                case "install":
                    install = _read(InstallArguments, verb, arguments)
                    return await self._in_turn(verb, install, partial(self._install, install))
                case "commit":
                    commit = _read(CommitArguments, verb, arguments)
                    return await self._in_turn(verb, commit, partial(self._commit, commit))
                case "rollback":
                    rollback = _read(RollbackArguments, verb, arguments)
                    return await self._in_turn(verb, rollback, partial(self._rollback, rollback))
            raise BadInput("request", f"unknown verb {verb!r}", f"valid are: {', '.join(VERBS)}")
        except InstallRefused as refusal:
            raise ControlRefused(refusal.reason, str(refusal)) from refusal

    def _status(self, wanted: StatusArguments) -> Mapping[str, Any]:
        with refusing("reading what is installed"):
            records = self._products.records(wanted.product)
            return {"products": {record.product: self._describe(record) for record in records}}

    def _install(self, wanted: InstallArguments) -> Mapping[str, Any]:
        manifest = self._verifier.verify(wanted.product, wanted.version, Path(wanted.mirror))
        installation = self._products.install(manifest, Path(wanted.transport))
        return {"slot": str(installation.slot), "previous": _plain(installation.previous)}

    def _commit(self, release: CommitArguments) -> Mapping[str, Any]:
        self._products.commit(release.product, release.manifest_sha256)
        return {}

    def _rollback(self, release: RollbackArguments) -> Mapping[str, Any]:
        if release.mirror is not None:
            self._verifier.learn_recalls(Path(release.mirror))
        return {"active": _plain(self._products.rollback(release.product, release.manifest_sha256))}

    async def _in_turn(self, verb: str, request: _Request, work: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        return await self._turns.take(request.product, (verb, request), partial(_carry_out, verb, request, work))

    def _describe(self, record: ProductRecord) -> Mapping[str, Any]:
        slot = self._products.slot_of(record)
        return {
            "active": _plain(record.active),
            "previous": _plain(record.previous),
            "pending": _plain(record.candidate),
            "phase": record.phase.value,
            "slot": None if slot is None else str(slot),
        }


def _read(cls: type[A], verb: str, arguments: Mapping[str, Any]) -> A:
    return build(cls, arguments, where=f"{verb} request")


def _plain(release: Release | None) -> dict[str, Any] | None:
    if release is None:
        return None
    plain = asdict(release)
    del plain["slot"], plain["oldest_fallback"]  # ours alone; who asks is told a path
    return plain


def _check_path(field: str, path: str) -> None:
    check_count(field, path, MAX_PATH_CHARS, least=1)
    if not Path(path).is_absolute() or "\0" in path:
        raise ValueError(f"{field} must be an absolute path")


async def _carry_out(verb: str, request: _Request, work: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
    """Work in a thread, and log how it ended."""
    try:
        with refusing(f"{verb} of {request.product}"):
            answer = await trio.to_thread.run_sync(work)
    except (InstallRefused, SigningError) as refusal:
        _log.warning("refused", verb=verb, product=request.product, reason=refusal.reason, problem=str(refusal))
        raise
    _log.info("done", verb=verb, product=request.product)
    return answer
