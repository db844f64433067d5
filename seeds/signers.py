# SPDX-License-Identifier: Apache-2.0
"""The fleet's private keys, opened by the URIs of `fleet.toml`."""

from collections.abc import Callable

from securesystemslib.signer import Key, Signer

from seeds.fleet import Fleet
from seeds.services.online_keys import OnlineKeys
from signing.errors import BadInput, KeyUnavailable
from signing.keys import open_signer
from signing.repository import Repository

Passphrase = Callable[[str], bytes]


def open_signers(fleet: Fleet, repository: Repository, role: str, passphrase: Passphrase) -> tuple[Signer, ...]:
    """All of the role's keys that the configuration names. Raises BadInput when it names none, or KeyUnavailable."""
    uris = fleet.config.uris_of(role)
    if not uris:
        raise BadInput(str(fleet.layout.config), f"names no keys of role {role!r}", "add them under [[keys]]")
    return tuple(open_role_signer(fleet, repository, role, uri, passphrase) for uri in uris)


def open_role_signer(fleet: Fleet, repository: Repository, role: str, uri: str, passphrase: Passphrase) -> Signer:
    """The one key at `uri`, whichever of the role's keys it is. Raises KeyUnavailable."""
    known: dict[str, bytes] = {}

    def ask_once(name: str) -> bytes:
        if name not in known:
            known[name] = passphrase(name)
        return known[name]

    problem = KeyUnavailable(f"role {role} has no keys")
    for key in _likeliest_first(fleet, repository.keys_of(role), role, uri):
        try:
            return open_signer(uri, key, ask_once, base=fleet.directory)
        except KeyUnavailable as refusal:
            problem = refusal
    raise problem


def open_online_keys(fleet: Fleet, repository: Repository, passphrase: bytes) -> OnlineKeys:
    """What the coordinator signs with. Raises BadInput or KeyUnavailable."""

    def only(role: str) -> Signer:
        signers = open_signers(fleet, repository, role, lambda _: passphrase)
        if len(signers) != 1:
            raise BadInput(str(fleet.layout.config), f"names {len(signers)} keys of {role!r}", "an online role has one")
        return signers[0]

    return OnlineKeys(schedules=only("schedules"), snapshot=only("snapshot"), timestamp=only("timestamp"))


def _likeliest_first(fleet: Fleet, keys: list[Key], role: str, uri: str) -> list[Key]:
    # Opening a file costs a deliberately slow derivation, and the metadata mostly lists keys as the configuration does.
    uris = fleet.config.uris_of(role)
    index = uris.index(uri) if uri in uris else 0
    return keys[index : index + 1] + keys[:index] + keys[index + 1 :]
