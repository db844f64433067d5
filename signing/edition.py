# SPDX-License-Identifier: Apache-2.0
"""An edition: one consistent set of signed metadata, as a client sees it that reads one timestamp.

Pure: no files, no clock. Signatures are judged by python-tuf alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from securesystemslib.signer import Key, Signer
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import (
    Metadata,
    Role,
    Root,
    RootVerificationResult,
    Snapshot,
    Targets,
    Timestamp,
    VerificationResult,
)

from signing.errors import KeyUnavailable, NotSigned
from signing.roles import ROLES

S = TypeVar("S", Root, Timestamp, Snapshot, Targets)


class SignatureCount(NamedTuple):
    """Valid signatures there are, and how many there must be before the metadata may be published."""

    have: int
    need: int

    @property
    def is_enough(self) -> bool:
        """Nobody else has to sign."""
        return self.have >= self.need


@dataclass(frozen=True, kw_only=True)
class Edition:
    """Metadata that belong together; `roles` holds the top-level targets and every role that it delegates to."""

    root: Metadata[Root]
    timestamp: Metadata[Timestamp]
    snapshot: Metadata[Snapshot]
    roles: Mapping[str, Metadata[Targets]]

    def metadata(self, role: str) -> Metadata[Any]:
        """That role's metadata."""
        top: dict[str, Metadata[Any]] = {
            "root": self.root,
            "timestamp": self.timestamp,
            "snapshot": self.snapshot,
        }
        return top[role] if role in top else self.roles[role]

    def delegator(self, role: str) -> Root | Targets:
        """The metadata that names the keys of `role`."""
        return self.roles["targets"].signed if ROLES[role].delegated_by == "targets" else self.root.signed

    def terms(self, role: str) -> Role:
        """Key ids and threshold of `role`."""
        return self.delegator(role).get_delegated_role(role)

    def keys_of(self, role: str) -> list[Key]:
        """The keys of which `role` needs its threshold."""
        delegator = self.delegator(role)
        return [delegator.get_key(keyid) for keyid in delegator.get_delegated_role(role).keyids]

    def expires(self, role: str) -> datetime:
        """When that role's metadata ends its life."""
        expires: datetime = self.metadata(role).signed.expires
        return expires

    def verify(self) -> None:
        """Raise NotSigned unless every role is signed as its delegator demands, all the way from the root."""
        for role in ROLES:
            if role != "root":
                require(role, result_of(self.delegator(role), role, self.metadata(role)))
        # That a root is signed as its predecessor demands is for `root_result`, before it becomes part of an edition.
        require("root", result_of(self.root.signed, "root", self.root))

    def is_valid_under(self, root: Metadata[Root]) -> bool:
        """Whether a client that trusts `root` accepts this edition's signatures."""
        try:
            Edition(root=root, timestamp=self.timestamp, snapshot=self.snapshot, roles=self.roles).verify()
        except NotSigned:
            return False
        return True


def result_of(delegator: Root | Targets, role: str, metadata: Metadata[Any]) -> VerificationResult:
    """Which of the keys that `delegator` names for `role` have signed `metadata`, as python-tuf says."""
    return delegator.get_verification_result(role, metadata.signed_bytes, metadata.signatures)


def root_result(previous: Root, root: Metadata[Root]) -> RootVerificationResult:
    """The same for a new root, which needs its predecessor's threshold as well as its own."""
    return root.signed.get_root_verification_result(previous, root.signed_bytes, root.signatures)


def require(role: str, result: VerificationResult | RootVerificationResult) -> None:
    """Raise NotSigned, with the numbers, unless `result` is verified."""
    if not result:
        count = count_of(result)
        raise NotSigned(f"{role}: has {count.have} of {count.need} signatures by its keys")


def count_of(result: VerificationResult | RootVerificationResult) -> SignatureCount:
    """The numbers for people; what is verified is `result`'s to say, and `have` reaches `need` only when it is."""
    have = len(result.signed)
    if isinstance(result, VerificationResult):
        return SignatureCount(have, have + result.missing)
    # One key may serve both roots, and then its signature brings each of them one nearer.
    shared = len(result.first.unsigned.keys() & result.second.unsigned.keys())
    first, second = result.first.missing, result.second.missing
    return SignatureCount(have, have + max(first, second, first + second - shared))


def add_signature(metadata: Metadata[S], signer: Signer) -> None:
    """Sign `metadata` in place, beside the signatures that it has. Raises KeyUnavailable."""
    try:
        metadata.sign(signer, append=True)
    except UnsignedMetadataError as problem:
        raise KeyUnavailable(f"key {signer.public_key.keyid}: {problem}") from problem
