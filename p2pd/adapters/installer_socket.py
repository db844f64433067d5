# SPDX-License-Identifier: Apache-2.0
"""p2pd-install over its Unix socket: requests out, frozen dataclasses back."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import trio

from p2pd.host.control_socket import ControlRefused, ControlUnreachable, request
from p2pd.ports import Installation, InstalledProduct, InstalledRelease, InstallerFailure, InstallPhase
from signing.errors import BadInput
from signing.reasons import Reason
from signing.structure import build

QUICK_SECONDS = 30.0
# Copying, hashing and unpacking the largest payload (64 GiB) at 20 MB/s; a shorter wait would only lose the answer,
# since p2pd-install carries on.
LONG_SECONDS = 3_600.0
MOST_REQUESTS = 8  # at once, of the 32 connections of the socket: thousands of products may want something together

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class _Installation:
    slot: str
    previous: InstalledRelease | None


@dataclass(frozen=True, kw_only=True)
class _Rollback:
    active: InstalledRelease | None


@dataclass(frozen=True, kw_only=True)
class _Product:
    active: InstalledRelease | None
    previous: InstalledRelease | None
    pending: InstalledRelease | None
    phase: InstallPhase
    slot: str | None


class InstallerSocket:
    """The `Installer` behind the socket at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places = trio.CapacityLimiter(MOST_REQUESTS)

    async def status(self, product: str | None = None) -> Mapping[str, InstalledProduct]:
        """See `Installer`."""
        answer = await self._ask("status", {"product": product} if product else {}, QUICK_SECONDS)
        products = answer.get("products")
        if not isinstance(products, dict):
            raise InstallerFailure(Reason.INSTALLER_UNREACHABLE, f"{self._path}: answered without products")
        return {name: _installed(self._read(_Product, product)) for name, product in products.items()}

    async def install(self, *, product: str, version: str, mirror: Path, transport: Path) -> Installation:
        """See `Installer`."""
        arguments = {"product": product, "version": version, "mirror": str(mirror), "transport": str(transport)}
        answer = self._read(_Installation, await self._ask("install", arguments, LONG_SECONDS))
        return Installation(slot=Path(answer.slot), previous=answer.previous)

    async def commit(self, *, product: str, manifest_sha256: str) -> None:
        """See `Installer`."""
        await self._ask("commit", {"product": product, "manifest_sha256": manifest_sha256}, LONG_SECONDS)

    async def rollback(self, *, product: str, manifest_sha256: str, mirror: Path) -> InstalledRelease | None:
        """See `Installer`."""
        arguments = {"product": product, "manifest_sha256": manifest_sha256, "mirror": str(mirror)}
        return self._read(_Rollback, await self._ask("rollback", arguments, LONG_SECONDS)).active

    async def _ask(self, verb: str, arguments: Mapping[str, Any], timeout_seconds: float) -> Mapping[str, Any]:
        try:
            async with self._places:
                return await request(self._path, verb, arguments, timeout_seconds=timeout_seconds)
        except ControlUnreachable as problem:
            raise InstallerFailure(Reason.INSTALLER_UNREACHABLE, str(problem)) from problem
        except ControlRefused as refusal:
            # Refusals without a reason are the socket's own: a user who may not ask, too many connections.
            raise InstallerFailure(refusal.reason or Reason.INSTALLER_UNREACHABLE, refusal.message) from refusal

    def _read(self, cls: type[T], answer: Any) -> T:
        try:
            # A newer p2pd-install may tell more than we ask for.
            return build(cls, answer, where=f"answer of {self._path}", ignore_unknown=True)
        except BadInput as problem:
            raise InstallerFailure(Reason.INSTALLER_UNREACHABLE, str(problem)) from problem


def _installed(product: _Product) -> InstalledProduct:
    return InstalledProduct(
        active=product.active,
        previous=product.previous,
        pending=product.pending,
        phase=product.phase,
        slot=None if product.slot is None else Path(product.slot),
    )
