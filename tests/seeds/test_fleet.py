# SPDX-License-Identifier: Apache-2.0
"""A new fleet is whole, closed to others, and comes into being in an empty place only."""

import hashlib
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from seeds import new_fleet
from seeds.adapters.store import Store
from seeds.fleet import Fleet, open_fleet
from seeds.new_fleet import FleetPlan, create_fleet
from signing import encrypted_pkcs8
from signing.codec import decode
from signing.errors import BadInput, KeyUnavailable
from signing.policy import POLICY_TARGET, Policy
from signing.repository import Repository
from signing.roles import ROLES
from tests.seeds.fleet_kit import OFFLINE, ONLINE

NOW = datetime.now(UTC)


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> FleetPlan:
    monkeypatch.setattr(encrypted_pkcs8, "_SCRYPT_N", 2)  # these keys guard nothing
    return FleetPlan(names=("::1", "coordinator.example"))


def create(directory: Path, plan: FleetPlan) -> new_fleet.NewFleet:
    return create_fleet(directory, plan, offline_passphrase=OFFLINE, online_passphrase=ONLINE, now=NOW)


def test_it_is_whole(tmp_path: Path, plan: FleetPlan) -> None:
    made = create(tmp_path / "fleet", plan)
    fleet = open_fleet(tmp_path / "fleet")
    assert fleet == made.fleet
    assert (fleet.config.public_url, fleet.config.agent_url) == ("https://[::1]:8443", "https://[::1]:8444")
    repository = Repository(fleet.repository)
    assert (repository.threshold("patches"), len(repository.keys_of("patches"))) == (2, 2)
    data = repository.read_target("policies", POLICY_TARGET)
    assert data is not None
    canary, everyone = decode(Policy, data, where="test").rings
    assert (canary.name, canary.percent, canary.at_least) == ("canary", 5, 1)
    assert (canary.gate.success_percent, canary.gate.error_count) == (100, 1)
    assert everyone.name == "everyone"
    assert repository.read_target("targets", "trust/default.pem") == fleet.read_segment_certificate("default")
    with Store(fleet.database) as store, store.reading() as transaction:
        assert transaction.devices() == ()


def test_the_account_says_which_key_may_do_what(tmp_path: Path, plan: FleetPlan) -> None:
    made = create(tmp_path / "fleet", plan)
    assert {key.role for key in made.keys} == set(ROLES)
    assert len({key.keyid for key in made.keys}) == len(made.keys) == 9
    assert all(("online" in key.uri) is key.is_online and key.power for key in made.keys)
    assert made.thresholds["patches"] == 2


def test_nobody_else_may_read_it(tmp_path: Path, plan: FleetPlan) -> None:
    directory = create(tmp_path / "fleet", plan).fleet.directory
    assert directory.stat().st_mode & 0o777 == 0o700
    secrets = [*directory.glob("keys/*/*.pem"), *directory.glob("segments/*-key.pem"), directory / "server/key.pem"]
    assert len(secrets) == 11
    assert {path.stat().st_mode & 0o777 for path in secrets} == {0o600}
    encrypted = [path for path in secrets if b"ENCRYPTED" in path.read_bytes()]
    assert [path.name for path in set(secrets) - set(encrypted)] == ["key.pem"]


def test_tokens_pin_the_authority_and_the_newest_root(fleet: Fleet) -> None:
    pins = fleet.pins()
    assert pins.ca_sha256 == hashlib.sha256(fleet.layout.server_ca.read_bytes()).hexdigest()
    root = fleet.repository / "metadata" / "1.root.json"
    assert (pins.root_version, pins.root_sha256) == (1, hashlib.sha256(root.read_bytes()).hexdigest())
    shutil.copy(root, root.with_name("10.root.json"))
    assert fleet.pins().root_version == 10
    assert pins.segments == ("office", "lab")


def test_a_directory_with_something_in_it_is_left_alone(tmp_path: Path, plan: FleetPlan) -> None:
    (tmp_path / "diary.txt").write_text("dear diary")
    with pytest.raises(BadInput, match="is not empty"):
        create(tmp_path, plan)
    assert [path.name for path in tmp_path.iterdir()] == ["diary.txt"]


def test_a_failure_leaves_the_directory_empty(tmp_path: Path, plan: FleetPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyUnavailable("no")

    monkeypatch.setattr(Repository, "create", fail)
    with pytest.raises(KeyUnavailable):
        create(tmp_path / "fleet", plan)
    assert list((tmp_path / "fleet").iterdir()) == []


def test_what_cannot_be_a_fleet_is_refused(tmp_path: Path) -> None:
    for wrong in ({"names": ()}, {"segments": ("a", "a")}, {"release_keys": 1}, {"release_threshold": 0}):
        with pytest.raises(ValueError, match=r"names|segments|release_"):
            FleetPlan(**{"names": ("origin",), **wrong})  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(BadInput, match="is no fleet directory"):
        open_fleet(tmp_path)


def test_an_authority_opens_with_its_passphrase_only(fleet: Fleet) -> None:
    assert fleet.open_authority("lab", ONLINE).segment == "lab"
    with pytest.raises(KeyUnavailable):
        fleet.open_authority("lab", b"wrong")
    with pytest.raises(BadInput, match=r"attic\.pem"):
        fleet.open_authority("attic", ONLINE)
    fleet.layout.segment_key("lab").unlink()
    with pytest.raises(KeyUnavailable, match=r"lab-key\.pem"):
        fleet.open_authority("lab", ONLINE)
    shutil.copy(fleet.layout.segment_certificate("office"), fleet.layout.segment_certificate("attic"))
    shutil.copy(fleet.layout.segment_key("office"), fleet.layout.segment_key("attic"))
    with pytest.raises(BadInput, match="belongs to segment 'office'"):
        fleet.open_authority("attic", ONLINE)
