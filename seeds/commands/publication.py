# SPDX-License-Identifier: Apache-2.0
"""Signing and publishing one role's pending metadata with the fleet's configured keys."""

from datetime import datetime

from seeds.adapters.payload_shelf import PayloadShelf
from seeds.fleet import Fleet
from seeds.services.publishing import publish
from seeds.signers import open_signers
from signing.manifest import Manifest
from signing.repository import Repository


def shelf_of(fleet: Fleet) -> PayloadShelf:
    """Where the fleet keeps transports, staged and served."""
    return PayloadShelf(fleet.payloads)


def sign_role(fleet: Fleet, repository: Repository, role: str, offline: bytes) -> None:
    """Sign what is pending of `role` with all of its configured keys. Raises KeyUnavailable or BadInput."""
    for signer in open_signers(fleet, repository, role, lambda _: offline):
        with repository.lock():
            repository.sign(role, signer)


def publish_role(
    fleet: Fleet, repository: Repository, role: str, online: bytes, *, now: datetime
) -> tuple[Manifest, ...]:
    """Publish what is pending of `role`; releases that are new by that. Raises NotSigned, KeyUnavailable, BadInput."""
    (snapshot,) = open_signers(fleet, repository, "snapshot", lambda _: online)
    (timestamp,) = open_signers(fleet, repository, "timestamp", lambda _: online)
    return publish(repository, shelf_of(fleet), [role], snapshot=snapshot, timestamp=timestamp, now=now)
