# SPDX-License-Identifier: Apache-2.0
"""A fleet from nothing: what is served first, and which fleets are not made at all."""

from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner, Key, SSlibKey

from signing.errors import BadInput, NotSigned
from signing.repository import Repository
from tests.signing.fleet import AUTHORITY, MANIFEST, POLICY, RELEASE, Client, Fleet, read


def test_a_new_repository_serves_its_first_targets(fleet: Fleet, client: Client) -> None:
    updater = client.refresh(fleet.now)
    assert read(updater, "trust/default.pem") == AUTHORITY["trust/default.pem"]
    assert read(updater, "policies/fleet") == POLICY["policies/fleet"]
    assert read(updater, MANIFEST) is None
    assert fleet.repository.threshold("patches") == 2
    assert fleet.repository.keys_of("patches") == fleet.keys()["patches"]
    assert fleet.repository.timestamp_version() == 1


def test_one_key_under_two_names_is_no_second_pair_of_eyes(fleet: Fleet, tmp_path: Path) -> None:
    key = fleet.signers["patches"][0].public_key
    alias = SSlibKey("alias", key.keytype, key.scheme, key.keyval)
    with pytest.raises(BadInput, match="role patches: has the same key twice"):
        Repository.create(
            tmp_path / "other",
            keys={**fleet.keys(), "patches": [key, alias]},
            thresholds={},
            signers=fleet.signers,
            targets={},
            now=fleet.now,
        )
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("keys", "thresholds", "message"),
    [
        ({"patches": []}, {}, "role patches: has no key"),
        ({}, {"patches": 3}, "asks for 3 signatures of 2 keys"),
        ({}, {"patches": 0}, "asks for 0 signatures"),
        ({}, {"patchs": 1}, "did you mean 'patches'"),
        ({"patches": "schedules"}, {"patches": 1}, "roles schedules and patches: share a key"),
    ],
)
def test_a_fleet_with_unsafe_keys_is_not_made(
    fleet: Fleet, tmp_path: Path, keys: dict[str, str | list[Key]], thresholds: dict[str, int], message: str
) -> None:
    replaced = {role: fleet.keys()[value] if isinstance(value, str) else value for role, value in keys.items()}
    with pytest.raises(BadInput, match=message):
        Repository.create(
            tmp_path / "other",
            keys={**fleet.keys(), **replaced},
            thresholds=thresholds,
            signers=fleet.signers,
            targets={},
            now=fleet.now,
        )
    assert not (tmp_path / "other").exists()


def test_two_keys_of_one_name_are_refused(fleet: Fleet, tmp_path: Path) -> None:
    taken = fleet.signers["policies"][0].public_key.keyid
    namesake = CryptoSigner.generate_ed25519(keyid=taken)
    with pytest.raises(BadInput, match="is the name of two different keys"):
        Repository.create(
            tmp_path / "other",
            keys={**fleet.keys(), "recalls": [namesake.public_key]},
            thresholds={},
            signers={**fleet.signers, "recalls": [namesake]},
            targets={},
            now=fleet.now,
        )


def test_a_fleet_that_lacks_signatures_is_not_made(fleet: Fleet, tmp_path: Path) -> None:
    signers = {**fleet.signers, "patches": fleet.signers["patches"][:1]}
    with pytest.raises(NotSigned, match="patches: has 1 of 2"):
        Repository.create(
            tmp_path / "other", keys=fleet.keys(), thresholds={}, signers=signers, targets={}, now=fleet.now
        )
    assert [path.name for path in tmp_path.iterdir()] == ["repository"]


def test_an_occupied_directory_is_left_alone(fleet: Fleet) -> None:
    before = fleet.root_bytes
    with pytest.raises(BadInput, match="not an empty directory"):
        Repository.create(
            fleet.directory, keys=fleet.keys(), thresholds={}, signers=fleet.signers, targets={}, now=fleet.now
        )
    assert fleet.root_bytes == before


def test_what_is_no_repository_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not a p2pd repository; make one with `p2pctl init`"):
        Repository(tmp_path)


def test_everything_is_readable_for_a_web_server_of_another_user(fleet: Fleet) -> None:
    fleet.release(RELEASE)
    served = [fleet.directory, *(fleet.directory / "metadata").rglob("*"), *(fleet.directory / "targets").rglob("*")]
    for path in served:
        assert path.stat().st_mode & 0o044 == 0o044, path


def test_metadata_of_another_kind_in_a_roles_place_is_named(fleet: Fleet) -> None:
    metadata = fleet.directory / "metadata"
    (metadata / "timestamp.json").write_bytes(fleet.root_bytes)
    with pytest.raises(BadInput, match=r"timestamp\.json: is root metadata, expected timestamp"):
        Repository(fleet.directory)
