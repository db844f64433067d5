# SPDX-License-Identifier: Apache-2.0
"""The verbs of p2pd-install: what may be asked over its socket, and what is answered.

    status   {}                                     every product's releases and phase
    install  {product, version, mirror, transport}  verify, bring in, put on probation
    commit   {product, manifest_sha256}             it has proved itself
    rollback {product, manifest_sha256}             back to the release before it

All but `status` may be repeated: what is done already is answered like what was done just now.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import trio

from p2pd.host.control_socket import ControlRefused
from p2pd.host.telemetry import log
from p2pd.installer.journal import ProductRecord, Release
from p2pd.installer.products import Products
from p2pd.installer.refusal import InstallRefused
from p2pd.installer.verification import Verifier
from signing.bounds import check_count, check_product, check_sha256, check_version
from signing.errors import BadInput, SigningError
from signing.reasons import Reason
from signing.structure import build

MAX_PATH_CHARS = 4_096  # PATH_MAX
VERBS = ("status", "install", "commit", "rollback")

_log = log(__name__)

A = TypeVar("A")
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class StatusArguments:
    """Nothing to say."""


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
            check_count(field, getattr(self, field), MAX_PATH_CHARS, least=1)
            if not Path(getattr(self, field)).is_absolute() or "\0" in getattr(self, field):
                raise ValueError(f"{field} must be an absolute path")


@dataclass(frozen=True, kw_only=True)
class ReleaseArguments:
    """A release that is installed, by its manifest."""

    product: str
    manifest_sha256: str

    def __post_init__(self) -> None:
        check_product("product", self.product)
        check_sha256("manifest_sha256", self.manifest_sha256)


class InstallRequests:
    """Answers requests by worker threads. A thread runs to its end, whoever loses patience: what it does is whole
    or undone, and a kill in its middle is recovered from at the next start.
    """

    def __init__(self, products: Products, verifier: Verifier) -> None:
        self._products = products
        self._verifier = verifier
        self._under_way: set[str] = set()

    async def handle(self, verb: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """The answer to one request. Raises ControlRefused or SigningError, each with a reason."""
        try:
            match verb:
                case "status":
                    _read(StatusArguments, verb, arguments)
                    return await trio.to_thread.run_sync(self._status)
                case "install":
                    return await self._install(_read(InstallArguments, verb, arguments))
                case "commit":
                    return await self._commit(_read(ReleaseArguments, verb, arguments))
                case "rollback":
                    return await self._rollback(_read(ReleaseArguments, verb, arguments))
            raise BadInput("request", f"unknown verb {verb!r}", f"valid are: {', '.join(VERBS)}")
        except InstallRefused as refusal:
            raise ControlRefused(refusal.reason, str(refusal)) from refusal

    def _status(self) -> Mapping[str, Any]:
        return {"products": {record.product: self._describe(record) for record in self._products.records()}}

    async def _install(self, wanted: InstallArguments) -> Mapping[str, Any]:
        async with self._only_one(wanted.product, "install"):
            installation = await _in_thread(partial(self._verified_install, wanted))
        return {"slot": str(installation.slot), "previous": _plain(installation.previous)}

    async def _commit(self, release: ReleaseArguments) -> Mapping[str, Any]:
        async with self._only_one(release.product, "commit"):
            await _in_thread(partial(self._products.commit, release.product, release.manifest_sha256))
        return {}

    async def _rollback(self, release: ReleaseArguments) -> Mapping[str, Any]:
        async with self._only_one(release.product, "rollback"):
            active = await _in_thread(partial(self._products.rollback, release.product, release.manifest_sha256))
        return {"active": _plain(active)}

    def _verified_install(self, wanted: InstallArguments) -> Any:
        manifest = self._verifier.verify(wanted.product, wanted.version, Path(wanted.mirror))
        return self._products.install(manifest, Path(wanted.transport))

    @asynccontextmanager
    async def _only_one(self, product: str, verb: str) -> AsyncIterator[None]:
        """Refuse a second request for a product instead of queueing it; log how each one ended."""
        if product in self._under_way:
            raise InstallRefused(Reason.BUSY, f"{product}: another request is being carried out; ask again later")
        self._under_way.add(product)
        try:
            yield
        except (InstallRefused, SigningError) as refusal:
            _log.warning("refused", verb=verb, product=product, reason=refusal.reason, problem=str(refusal))
            raise
        else:
            _log.info("done", verb=verb, product=product)
        finally:
            self._under_way.discard(product)

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
    del plain["slot"]  # a name of ours; who asks is told a path
    return plain


async def _in_thread(work: Callable[[], T]) -> T:
    return await trio.to_thread.run_sync(work)
