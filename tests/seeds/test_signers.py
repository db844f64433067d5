# SPDX-License-Identifier: Apache-2.0
"""The configured keys are found whatever their order, and opened with one question each."""

from dataclasses import replace

import pytest

from seeds.config import RoleKeys
from seeds.fleet import Fleet
from seeds.signers import open_online_keys, open_role_signer, open_signers
from signing.errors import BadInput, KeyUnavailable
from signing.repository import Repository
from tests.seeds.fleet_kit import OFFLINE, ONLINE


@pytest.fixture
def repository(fleet: Fleet) -> Repository:
    return Repository(fleet.repository)


def test_all_keys_of_a_role_are_opened(fleet: Fleet, repository: Repository) -> None:
    signers = open_signers(fleet, repository, "patches", lambda _: OFFLINE)
    assert {signer.public_key.keyid for signer in signers} == {key.keyid for key in repository.keys_of("patches")}


@pytest.mark.parametrize("number", [1, 2])
def test_a_key_is_recognised_whichever_it_is(fleet: Fleet, repository: Repository, number: int) -> None:
    asked: list[str] = []

    def ask(name: str) -> bytes:
        asked.append(name)
        return OFFLINE

    reordered = replace(fleet.config, keys=())  # the file says nothing about the order
    bare = Fleet(fleet.layout, reordered)
    uri = f"encrypted-file:keys/offline/patches-{number}.pem"
    opened = open_role_signer(bare, repository, "patches", uri, ask)
    same = open_role_signer(fleet, repository, "patches", uri, lambda _: OFFLINE)
    assert opened.public_key.keyid == same.public_key.keyid
    assert asked == [f"passphrase of patches-{number}.pem"]


def test_a_key_of_another_role_is_refused(fleet: Fleet, repository: Repository) -> None:
    with pytest.raises(KeyUnavailable, match="holds another key"):
        open_role_signer(fleet, repository, "root", "encrypted-file:keys/offline/targets.pem", lambda _: OFFLINE)


def test_the_online_keys_need_the_online_passphrase(fleet: Fleet, repository: Repository) -> None:
    keys = open_online_keys(fleet, repository, ONLINE)
    assert "Signer" not in repr(keys)
    with pytest.raises(KeyUnavailable, match="wrong passphrase"):
        open_online_keys(fleet, repository, OFFLINE)


def test_what_the_configuration_lacks_is_named(fleet: Fleet, repository: Repository) -> None:
    bare = Fleet(fleet.layout, replace(fleet.config, keys=()))
    with pytest.raises(BadInput, match="names no keys of role 'snapshot'"):
        open_signers(bare, repository, "snapshot", lambda _: ONLINE)
    twice = RoleKeys(role="schedules", uris=fleet.config.uris_of("schedules") * 1 + ("encrypted-file:other.pem",))
    with pytest.raises(KeyUnavailable, match=r"other\.pem"):
        open_online_keys(Fleet(fleet.layout, replace(fleet.config, keys=(twice,))), repository, ONLINE)
