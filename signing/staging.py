# SPDX-License-Identifier: Apache-2.0
"""What is to be signed next: new versions of offline roles, their signatures as they come in, and changes of keys.

Every method expects that its caller holds the repository's lock.
"""

from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from securesystemslib.signer import Key, Signer
from tuf.api.metadata import Metadata, Root, RootVerificationResult, TargetFile, Targets, VerificationResult

from signing.edition import Edition, SignatureCount, count_of, result_of, root_result
from signing.errors import BadInput, KeyUnavailable
from signing.key_sets import check_fleet_keys, replace_delegated_keys, replace_root_keys
from signing.pending_files import PendingFiles
from signing.repository_files import RepositoryFiles, describe
from signing.roles import ROLES, FleetRole, check_target

Judgement = VerificationResult | RootVerificationResult


@dataclass(frozen=True, kw_only=True)
class PendingVersion:
    """What somebody who is asked to sign should look at first."""

    role: str
    version: int
    expires: datetime
    put: tuple[str, ...]  # targets that are new or have new content
    removed: tuple[str, ...]
    changes_keys: bool
    signatures: SignatureCount


class Staging:
    """The pending versions of one repository, on top of what is published."""

    def __init__(self, files: RepositoryFiles, pending: PendingFiles) -> None:
        self._files = files
        self._pending = pending

    def stage(
        self, role: FleetRole, put: Mapping[str, bytes], remove: Collection[str], current: Edition, now: datetime
    ) -> None:
        """Make a version of `role` pending: the published targets, with `put` and without `remove`."""
        if role.is_online:
            raise BadInput(f"role {role.name}", "is signed online and never pending", "publish it with put_online")
        if role.name == "root":
            if put or remove:
                raise BadInput("role root", "signs no targets", "stage it without any, to renew its life")
            self._save("root", self._draft_root(current), current, {}, now)
            return
        draft = self._draft(role.name, current)
        # Only the targets start again from what is published: a change of keys that is pending stays.
        draft.targets = merged(role, current.roles[role.name].signed, put, remove)
        self._save(role.name, draft, current, put, now)

    def stage_keys(
        self, role: FleetRole, keys: Sequence[Key], threshold: int | None, current: Edition, now: datetime
    ) -> tuple[str, ...]:
        """Make a change of keys pending, on top of other changes of keys; return the roles that are to be signed."""
        root, targets = self._draft_root(current), self._draft("targets", current)
        if threshold is None:
            threshold = current.terms(role.name).threshold
        if role.delegated_by == "targets":
            replace_delegated_keys(targets, role.name, keys, threshold)
        else:
            replace_root_keys(root, role.name, keys, threshold)
        _check_keys(root, targets)
        to_sign = {role.name} if not role.is_online else set()
        to_sign.add("targets" if role.delegated_by == "targets" else "root")
        drafts: dict[str, Root | Targets] = {
            name: root if name == "root" else targets if name == "targets" else self._draft(name, current)
            for name in ROLES
            if name in to_sign
        }
        for name, draft in drafts.items():
            self._save(name, draft, current, {}, now)
        return tuple(drafts)

    def signable(self, role: str, signer: Signer, current: Edition) -> Metadata[Any]:
        """The pending metadata, if this signer's key is one that it still wants. Raises BadInput."""
        metadata = self._pending.metadata(role)
        where = str(self._pending.path_of(role))
        keyid = signer.public_key.keyid
        judgements = self.judge(role, metadata, current)
        wanted = {keyid for judgement in judgements for keyid in (judgement.signed | judgement.unsigned)}
        if keyid not in wanted:
            raise BadInput(where, f"is not to be signed by key {keyid}", f"its keys are {', '.join(sorted(wanted))}")
        if any(keyid in judgement.signed for judgement in judgements):
            raise BadInput(where, f"is signed by key {keyid} already", "what is missing is another key's signature")
        return metadata

    def add_signature(self, role: str, signed: Metadata[Any], keyid: str, current: Edition) -> SignatureCount:
        """Add the signature of `keyid` that `signed` bears to what is pending now."""
        metadata = self._pending.metadata(role)
        where = str(self._pending.path_of(role))
        if metadata.signed_bytes != signed.signed_bytes:
            raise BadInput(where, "was staged anew while it was being signed", "look at it and sign again")
        metadata.signatures[keyid] = signed.signatures[keyid]
        judgements = self.judge(role, metadata, current)
        if not any(keyid in judgement.signed for judgement in judgements):
            raise KeyUnavailable(f"key {keyid}: its signer made a signature that does not verify")
        self._pending.save(role, metadata)
        return count_of(judgements[0])

    def judge(self, role: str, metadata: Metadata[Any], current: Edition) -> list[Judgement]:
        """Who has signed `metadata`, first by the keys that will be in force, then by those that are."""
        if role == "root":
            return [root_result(current.root.signed, metadata)]
        upcoming = self._pending.find(ROLES[role].delegated_by or "root")
        delegators = [upcoming.signed] if upcoming else []
        return [result_of(delegator, role, metadata) for delegator in [*delegators, current.delegator(role)]]

    def describe(self, role: str, current: Edition) -> PendingVersion:
        """What the pending version of `role` changes."""
        metadata = self._pending.metadata(role)
        new, old = metadata.signed, current.metadata(role).signed
        new_targets = {} if role == "root" else new.targets
        old_targets = {} if role == "root" else old.targets
        return PendingVersion(
            role=role,
            version=new.version,
            expires=new.expires,
            put=tuple(sorted(path for path in new_targets if new_targets[path] != old_targets.get(path))),
            removed=tuple(sorted(old_targets.keys() - new_targets.keys())),
            changes_keys=_named_keys(new) != _named_keys(old),
            signatures=count_of(self.judge(role, metadata, current)[0]),
        )

    def _draft_root(self, current: Edition) -> Root:
        pending = self._pending.find("root")
        root: Root = deepcopy(pending.signed if pending else current.root.signed)
        return root

    def _draft(self, role: str, current: Edition) -> Targets:
        pending = self._pending.find(role)
        targets: Targets = deepcopy(pending.signed if pending else current.roles[role].signed)
        return targets

    def _save(
        self, role: str, draft: Root | Targets, current: Edition, put: Mapping[str, bytes], now: datetime
    ) -> None:
        pending = self._pending.find(role)
        if pending and pending.signatures and now < pending.signed.expires:
            draft.version, draft.expires = pending.signed.version, pending.signed.expires
            if draft == pending.signed:
                return  # nothing new to sign, so the signatures that were given stay
        # Roots are the one exception from taking a new number whenever one was signed: clients want them in sequence.
        draft.version = current.root.signed.version + 1 if role == "root" else self._next_version(role)
        draft.expires = now + ROLES[role].lifetime
        self._pending.save(role, Metadata[Any](draft), put)
        self._pending.remove([])

    def _next_version(self, role: str) -> int:
        return max(self._files.newest_version(role) + 1, self._pending.least_version(role))


def merged(
    role: FleetRole, published: Targets, put: Mapping[str, bytes], remove: Collection[str]
) -> dict[str, TargetFile]:
    """The targets of a role after `put` and `remove`. Raises BadInput."""
    for path in put:
        check_target(role, path)
        if path in remove:
            raise BadInput(f"target {path!r}", "is to be put and removed at once")
    for path in remove:
        if path not in published.targets:
            raise BadInput(f"target {path!r}", f"is not among the published targets of {role.name}")
    kept = {path: target for path, target in published.targets.items() if path not in remove}
    return kept | {path: describe(path, data) for path, data in put.items()}


def _check_keys(root: Root, targets: Targets) -> None:
    keys: dict[str, list[Key]] = {}
    thresholds: dict[str, int] = {}
    for name, role in ROLES.items():
        delegator = targets if role.delegated_by == "targets" else root
        terms = delegator.get_delegated_role(name)
        keys[name] = [delegator.get_key(keyid) for keyid in terms.keyids]
        thresholds[name] = terms.threshold
    check_fleet_keys(keys, thresholds)


def _named_keys(signed: Root | Targets) -> object:
    return (signed.keys, signed.roles) if isinstance(signed, Root) else signed.delegations
