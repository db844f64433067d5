# SPDX-License-Identifier: Apache-2.0
"""What the coordinator signs unattended, what a thief of its keys cannot do, and how metadata stay alive."""

import json
from datetime import timedelta

import pytest
from tuf.api.exceptions import ExpiredMetadataError, UnsignedMetadataError
from tuf.api.metadata import Metadata, Targets, Timestamp

from signing.edition import Edition, add_signature
from signing.errors import BadInput, NotSigned
from signing.next_edition import OnlineSigners, next_edition
from signing.repository_files import RepositoryFiles, describe
from signing.roles import OFFLINE, ROLES
from tests.signing.fleet import MANIFEST, Client, Fleet, read


def test_schedules_go_out_without_asking_anybody(fleet: Fleet, client: Client) -> None:
    fleet.put_online({"schedules/berlin": b"now", "schedules/paris": b"later"})
    fleet.put_online({"schedules/paris": b"now"})
    updater = client.refresh(fleet.now)
    assert (read(updater, "schedules/berlin"), read(updater, "schedules/paris")) == (b"now", b"now")
    signers = fleet.online("schedules", "snapshot", "timestamp")
    fleet.repository.put_online({}, remove=["schedules/berlin"], **signers, now=fleet.now)
    assert client.read(fleet.now, "schedules/berlin") is None


def test_a_stolen_coordinator_cannot_release_through_the_repository(fleet: Fleet) -> None:
    with pytest.raises(BadInput, match="not the schedules role's to sign"):
        fleet.put_online({MANIFEST: b"evil"})


def test_clients_do_not_take_a_patch_that_the_schedules_key_signed(fleet: Fleet, client: Client) -> None:
    """The thief has all online keys and writes metadata without our code."""
    current = RepositoryFiles(fleet.directory).edition()
    evil = Metadata(
        Targets(version=2, expires=fleet.now + timedelta(days=1), targets={MANIFEST: describe(MANIFEST, b"evil")})
    )
    add_signature(evil, fleet.signers["schedules"][0])
    _announce_as_thief(fleet, current, "schedules", evil)
    updater = client.refresh(fleet.now)
    assert updater._trusted_set.snapshot.meta["schedules.json"].version == 2
    assert read(updater, MANIFEST) is None


def test_clients_do_not_take_patches_metadata_that_the_schedules_key_signed(fleet: Fleet, client: Client) -> None:
    current = RepositoryFiles(fleet.directory).edition()
    evil = Metadata(
        Targets(version=2, expires=fleet.now + timedelta(days=1), targets={MANIFEST: describe(MANIFEST, b"evil")})
    )
    add_signature(evil, fleet.signers["schedules"][0])
    with pytest.raises(NotSigned, match="patches: has 0 of 2"):
        _announce_as_thief(fleet, current, "patches", evil)
    _announce_as_thief(fleet, current, "patches", evil, verified=False)
    with pytest.raises(UnsignedMetadataError, match="patches was signed by 0/2 keys"):
        client.read(fleet.now, MANIFEST)


def _announce_as_thief(
    fleet: Fleet, current: Edition, role: str, evil: Metadata[Targets], *, verified: bool = True
) -> None:
    signers = OnlineSigners(**fleet.online("snapshot", "timestamp"))
    versions = {"snapshot": 2, "timestamp": 2}
    with pytest.MonkeyPatch.context() as patch:
        if not verified:
            patch.setattr(Edition, "verify", lambda self: None)
        edition = next_edition(current, {role: evil}, signers=signers, versions=versions, now=fleet.now)
    RepositoryFiles(fleet.directory).install(edition, changed={role, "snapshot", "timestamp"}, targets={})


def test_online_roles_are_renewed_in_their_second_half(fleet: Fleet, client: Client) -> None:
    fleet.put_online({"schedules/berlin": b"schedule"})
    fleet.wait(hours=12)
    assert fleet.renew() == ()
    fleet.wait(hours=1)
    before = fleet.repository.timestamp_version()
    assert fleet.renew() == ("schedules", "snapshot", "timestamp")
    assert fleet.repository.timestamp_version() == before + 1
    assert fleet.renew() == ()
    fleet.wait(hours=23)
    assert client.read(fleet.now, "schedules/berlin") == b"schedule"


def test_a_timestamp_alone_is_renewed_alone(fleet: Fleet, client: Client) -> None:
    fleet.wait(hours=13)
    fleet.put_online({"schedules/berlin": b"schedule"})
    metadata = fleet.directory / "metadata"
    timestamp = json.loads((metadata / "timestamp.json").read_bytes())
    timestamp["signed"]["expires"] = (fleet.now + timedelta(hours=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    shorter = Metadata[Timestamp].from_dict(timestamp)
    shorter.sign(fleet.signers["timestamp"][0])
    (metadata / "timestamp.json").write_bytes(shorter.to_bytes())
    snapshots = sorted(path.name for path in metadata.glob("*.snapshot.json"))
    assert fleet.renew() == ("timestamp",)
    assert sorted(path.name for path in metadata.glob("*.snapshot.json")) == snapshots
    fleet.wait(hours=20)
    assert client.read(fleet.now, "schedules/berlin") == b"schedule"


def test_what_nobody_renews_is_refused_by_clients_and_renewing_brings_it_back(fleet: Fleet, client: Client) -> None:
    fleet.wait(days=30)
    with pytest.raises(ExpiredMetadataError):
        client.refresh(fleet.now)
    assert fleet.renew() == ("schedules", "snapshot", "timestamp")
    assert client.read(fleet.now, "policies/fleet") == b"policy 1"


def life_left(fleet: Fleet) -> dict[str, float]:
    """The share of its life that each offline role has left: people must sign before it is over."""
    expiries = fleet.repository.expiries()
    return {role: max(0.0, (expiries[role] - fleet.now) / ROLES[role].lifetime) for role in OFFLINE}


def test_people_learn_how_much_life_is_left_and_staging_nothing_renews_it(fleet: Fleet, client: Client) -> None:
    fleet.wait(days=90)
    left = life_left(fleet)
    assert set(left) == set(OFFLINE)
    assert left["patches"] == pytest.approx(0.5)
    assert left["policies"] == pytest.approx(1 - 90 / 365)
    for role in ("patches", "root"):
        fleet.repository.stage(role, {}, now=fleet.now)
        fleet.sign(role)
    fleet.publish("patches", "root")
    left = life_left(fleet)
    assert (left["patches"], left["root"]) == (1.0, 1.0)
    assert fleet.repository.expiries()["root"] == fleet.now + ROLES["root"].lifetime
    fleet.renew()
    assert client.refresh(fleet.now)._trusted_set.root.version == 2
    fleet.wait(days=400)
    assert set(life_left(fleet).values()) == {0.0}
