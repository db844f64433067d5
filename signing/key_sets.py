# SPDX-License-Identifier: Apache-2.0
"""Which keys speak for which role: the first root and delegations, and their replacement later.

Pure: works on metadata in memory. Roots and top-level targets name the keys; python-tuf judges signatures by them.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from securesystemslib.signer import Key
from tuf.api.metadata import (
    TOP_LEVEL_ROLE_NAMES,
    DelegatedRole,
    Delegations,
    Role,
    Root,
    Targets,
)

from signing.errors import BadInput
from signing.roles import DELEGATED, OFFLINE, ONLINE, ROLES, FleetRole, role_named


def first_root(keys: Mapping[str, Sequence[Key]], thresholds: Mapping[str, int], *, expires: datetime) -> Root:
    """Version 1 of the root. The keys have been checked."""
    roles = {name: Role([], thresholds[name]) for name in TOP_LEVEL_ROLE_NAMES}
    root = Root(version=1, expires=expires, roles=roles, consistent_snapshot=True)
    for name in TOP_LEVEL_ROLE_NAMES:
        for key in keys[name]:
            root.add_key(key, name)
    return root


def first_delegations(keys: Mapping[str, Sequence[Key]], thresholds: Mapping[str, int]) -> Delegations:
    """The delegations of the top-level targets role. The keys have been checked.

    All are terminating: a path belongs to one role, and clients look no further.
    """
    return Delegations(
        keys={key.keyid: key for name in DELEGATED for key in keys[name]},
        roles={
            name: DelegatedRole(
                name, [key.keyid for key in keys[name]], thresholds[name], True, paths=list(ROLES[name].paths)
            )
            for name in DELEGATED
        },
    )


def check_fleet_keys(keys: Mapping[str, Sequence[Key]], thresholds: Mapping[str, int]) -> None:
    """Refuse a set of keys for a whole fleet that lacks a role or misuses a key. Raises BadInput."""
    for name in (*keys, *thresholds):
        role_named(name)
    for name, role in ROLES.items():
        _check_role(role, keys.get(name, ()), thresholds[name])
    named: dict[str, tuple[str, str]] = {}
    for key in (key for role_keys in keys.values() for key in role_keys):
        if named.setdefault(key.keyid, _material(key)) != _material(key):
            raise BadInput(f"key {key.keyid}", "is the name of two different keys", "give one of them another key id")
    for online in ONLINE:
        for offline in OFFLINE:
            if set(map(_material, keys[online])) & set(map(_material, keys[offline])):
                raise BadInput(
                    f"roles {online} and {offline}",
                    "share a key",
                    f"who steals the coordinator's {online} key must not become {offline}: make another",
                )


def _check_role(role: FleetRole, keys: Sequence[Key], threshold: int) -> None:
    where = f"role {role.name}"
    if not keys:
        raise BadInput(where, "has no key", "give it at least one")
    if len(set(map(_material, keys))) != len(keys):
        raise BadInput(where, "has the same key twice", "a threshold counts different keys, in different hands")
    if not 1 <= threshold <= len(keys):
        raise BadInput(
            where, f"asks for {threshold} signatures of {len(keys)} keys", "add keys or change the threshold"
        )
    if role.is_online and threshold != 1:
        raise BadInput(where, f"asks for {threshold} signatures", "an online role is signed by one key, unattended")


def replace_root_keys(root: Root, role: str, keys: Sequence[Key], threshold: int) -> None:
    """Let `keys` alone speak for a top-level role, from this root on."""
    for keyid in list(root.roles[role].keyids):
        root.revoke_key(keyid, role)
    for key in keys:
        root.add_key(key, role)
    root.roles[role].threshold = threshold


def replace_delegated_keys(targets: Targets, role: str, keys: Sequence[Key], threshold: int) -> None:
    """Let `keys` alone speak for a delegated role, from this version of targets on."""
    for keyid in list(targets.get_delegated_role(role).keyids):
        targets.revoke_key(keyid, role)
    for key in keys:
        targets.add_key(key, role)
    targets.get_delegated_role(role).threshold = threshold


def _material(key: Key) -> tuple[str, str]:
    # A key id is only a name, which anybody may choose: what makes a key another key is its public value.
    return key.keytype, repr(sorted(key.keyval.items()))
