# SPDX-License-Identifier: Apache-2.0
"""Stories of authoring, told to the end: what python-tuf's own client makes of the result."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner, Key, SecretsHandler, Signature, Signer, SSlibKey
from tuf.api.exceptions import ExpiredMetadataError, UnsignedMetadataError
from tuf.api.metadata import Metadata, Targets, Timestamp

from signing.edition import Edition, add_signature
from signing.errors import BadInput, ContentMismatch, KeyUnavailable, NotSigned
from signing.next_edition import OnlineSigners, next_edition
from signing.repository import Repository
from signing.repository_files import RepositoryFiles, describe
from signing.roles import OFFLINE, ROLES
from tests.signing.fleet import AUTHORITY, POLICY, Client, Fleet, read

MANIFEST = "patches/tzdata/2025.2/manifest"
RELEASE = {MANIFEST: b"manifest", "patches/tzdata/2025.2/default.torrent": b"torrent"}


def test_a_new_repository_serves_its_first_targets(fleet: Fleet, client: Client) -> None:
    updater = client.refresh(fleet.now)
    assert read(updater, "trust/default.pem") == AUTHORITY["trust/default.pem"]
    assert read(updater, "policies/fleet") == POLICY["policies/fleet"]
    assert read(updater, MANIFEST) is None
    assert fleet.repository.threshold("patches") == 2
    assert fleet.repository.keys_of("patches") == fleet.keys()["patches"]
    assert fleet.repository.timestamp_version() == 1


def test_a_release_reaches_clients_once_two_people_have_signed(fleet: Fleet, client: Client) -> None:
    fleet.repository.stage("patches", RELEASE, now=fleet.now)
    first, second = fleet.signers["patches"]
    assert fleet.repository.sign("patches", first) == (1, 2)
    with pytest.raises(NotSigned, match="patches: has 1 of 2 signatures"):
        fleet.publish("patches")
    assert client.read(fleet.now, MANIFEST) is None
    count = fleet.repository.sign("patches", second)
    assert count == (2, 2)
    assert count.is_enough
    fleet.publish("patches")
    updater = client.refresh(fleet.now)
    assert {path: read(updater, path) for path in RELEASE} == RELEASE
    assert fleet.repository.target_paths("patches") == tuple(sorted(RELEASE))
    assert fleet.repository.read_target("patches", MANIFEST) == b"manifest"
    assert fleet.repository.pending() == ()


def test_the_same_key_twice_is_refused_and_does_not_count(fleet: Fleet) -> None:
    fleet.repository.stage("patches", RELEASE, now=fleet.now)
    fleet.repository.sign("patches", fleet.signers["patches"][0])
    with pytest.raises(BadInput, match="another key's signature"):
        fleet.repository.sign("patches", fleet.signers["patches"][0])
    with pytest.raises(NotSigned, match="1 of 2"):
        fleet.publish("patches")


def test_a_key_of_another_role_is_refused_by_name(fleet: Fleet) -> None:
    fleet.repository.stage("patches", RELEASE, now=fleet.now)
    stranger = fleet.signers["policies"][0]
    with pytest.raises(BadInput, match=f"not to be signed by key {stranger.public_key.keyid}"):
        fleet.repository.sign("patches", stranger)


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


def test_staging_adds_to_and_removes_from_what_is_published(fleet: Fleet, client: Client) -> None:
    fleet.release(RELEASE)
    fleet.repository.stage("patches", {"patches/curl/8.1/manifest": b"curl"}, remove=[MANIFEST], now=fleet.now)
    (pending,) = fleet.repository.pending()
    assert (pending.put, pending.removed) == (("patches/curl/8.1/manifest",), (MANIFEST,))
    assert (pending.role, pending.version, pending.signatures) == ("patches", 3, (0, 2))
    assert not pending.changes_keys
    assert fleet.repository.read_pending("patches", "patches/curl/8.1/manifest") == b"curl"
    assert fleet.repository.read_pending("patches", "patches/tzdata/2025.2/default.torrent") == b"torrent"
    assert fleet.repository.read_pending("patches", MANIFEST) is None
    fleet.sign("patches")
    fleet.publish("patches")
    assert client.read(fleet.now, MANIFEST) is None
    assert client.read(fleet.now, "patches/curl/8.1/manifest") == b"curl"


def test_staging_again_replaces_what_nobody_has_signed(fleet: Fleet, client: Client) -> None:
    fleet.repository.stage("patches", {MANIFEST: b"first thought"}, now=fleet.now)
    fleet.repository.stage("patches", {"patches/curl/8.1/manifest": b"curl"}, now=fleet.now)
    (pending,) = fleet.repository.pending()
    assert (pending.version, pending.put) == (2, ("patches/curl/8.1/manifest",))
    left = [path.name for path in (fleet.directory / "pending" / "targets").rglob("*") if path.is_file()]
    assert [name.partition(".")[2] for name in left] == ["manifest"]
    fleet.sign("patches")
    fleet.publish("patches")
    assert client.read(fleet.now, MANIFEST) is None


def test_staging_the_same_again_keeps_the_signatures(fleet: Fleet) -> None:
    fleet.repository.stage("patches", RELEASE, now=fleet.now)
    fleet.repository.sign("patches", fleet.signers["patches"][0])
    fleet.wait(hours=1)
    fleet.repository.stage("patches", RELEASE, now=fleet.now)
    assert fleet.repository.sign("patches", fleet.signers["patches"][1]) == (2, 2)


def test_other_content_costs_the_signatures_and_takes_a_new_number(fleet: Fleet) -> None:
    fleet.repository.stage("patches", RELEASE, now=fleet.now)
    fleet.repository.sign("patches", fleet.signers["patches"][0])
    for content in (b"second thought", b"third thought"):
        fleet.repository.stage("patches", {MANIFEST: content}, now=fleet.now)
        (pending,) = fleet.repository.pending()
        assert (pending.version, pending.signatures) == (3, (0, 2))


def test_a_number_that_was_signed_and_discarded_is_not_used_again(fleet: Fleet) -> None:
    fleet.repository.stage("patches", RELEASE, now=fleet.now)
    fleet.repository.sign("patches", fleet.signers["patches"][0])
    fleet.repository.discard("patches")
    assert fleet.repository.pending() == ()
    assert not any(path.is_file() for path in (fleet.directory / "pending" / "targets").rglob("*"))
    fleet.repository.stage("patches", RELEASE, now=fleet.now)
    assert fleet.repository.pending()[0].version == 3
    fleet.repository.discard("patches")
    with pytest.raises(BadInput, match="no version of patches is pending; stage one first"):
        fleet.repository.discard("patches")


def test_what_was_restaged_while_somebody_signed_does_not_get_that_signature(fleet: Fleet) -> None:
    fleet.repository.stage("patches", RELEASE, now=fleet.now)
    real = fleet.signers["patches"][0]

    class SlowToken(Signer):
        @classmethod
        def from_priv_key_uri(cls, uri: str, key: Key, secrets_handler: SecretsHandler | None = None) -> Signer:
            raise NotImplementedError

        @property
        def public_key(self) -> Key:
            return real.public_key

        def sign(self, payload: bytes) -> Signature:
            Repository(fleet.directory).stage("patches", {MANIFEST: b"swapped"}, now=fleet.now)
            return real.sign(payload)

    with pytest.raises(BadInput, match="staged anew while it was being signed"):
        fleet.repository.sign("patches", SlowToken())
    assert fleet.repository.pending()[0].signatures == (0, 2)


def test_a_signer_that_fails_or_lies_adds_nothing(fleet: Fleet) -> None:
    fleet.repository.stage("policies", {"policies/fleet": b"policy 2"}, now=fleet.now)
    liar = CryptoSigner.generate_ed25519()
    liar._public_key = fleet.signers["policies"][0].public_key
    with pytest.raises(KeyUnavailable, match="does not verify"):
        fleet.repository.sign("policies", liar)
    liar._private_key = None  # type: ignore[assignment]  # a token that was pulled out
    with pytest.raises(KeyUnavailable, match="Failed to sign"):
        fleet.repository.sign("policies", liar)
    assert fleet.repository.pending()[0].signatures == (0, 1)


@pytest.mark.parametrize(
    ("role", "put", "remove", "message"),
    [
        ("patches", {"patches/../../etc/passwd": b""}, [], "has the part '..'"),
        ("patches", {"schedules/berlin": b""}, [], "not the patches role's to sign"),
        ("patches", {}, ["patches/none/1/manifest"], "not among the published targets"),
        ("policies", {"policies/fleet": b""}, ["policies/fleet"], "put and removed at once"),
        ("schedules", {"schedules/berlin": b""}, [], "publish it with put_online"),
        ("root", {"trust/x": b""}, [], "signs no targets"),
        ("polices", {}, [], "did you mean 'policies'"),
    ],
)
def test_what_cannot_be_staged_changes_nothing(
    fleet: Fleet, role: str, put: dict[str, bytes], remove: list[str], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        fleet.repository.stage(role, put, remove=remove, now=fleet.now)
    assert fleet.repository.pending() == ()


def test_a_target_larger_than_clients_take_is_refused(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signing.repository_files.MAX_TARGET_BYTES", 100)
    with pytest.raises(BadInput, match="is 101 bytes, at most 100"):
        fleet.repository.stage("policies", {"policies/fleet": b"x" * 101}, now=fleet.now)


def test_metadata_larger_than_clients_take_are_not_published(
    fleet: Fleet, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.repository.stage("patches", {f"patches/p/{n}/manifest": b"m" for n in range(60)}, now=fleet.now)
    fleet.sign("patches")
    monkeypatch.setattr("signing.repository_files.MAX_METADATA_BYTES", 6_000)
    with pytest.raises(BadInput, match=r"role patches: its metadata would be \d+ bytes, clients accept 6000"):
        RepositoryFiles(fleet.directory).install(_pending_edition(fleet), changed={"patches"}, targets={})
    assert client.read(fleet.now, "patches/p/1/manifest") is None


def _pending_edition(fleet: Fleet) -> Edition:
    current = RepositoryFiles(fleet.directory).edition()
    metadata = Metadata[Targets].from_bytes((fleet.directory / "pending" / "patches.json").read_bytes())
    return next_edition(
        current,
        {"patches": metadata},
        signers=OnlineSigners(**fleet.online("snapshot", "timestamp")),
        versions={"snapshot": 2, "timestamp": 2},
        now=fleet.now,
    )


def test_a_pending_target_that_was_tampered_with_is_not_published(fleet: Fleet, client: Client) -> None:
    fleet.repository.stage("policies", {"policies/fleet": b"policy 2"}, now=fleet.now)
    fleet.sign("policies")
    (staged,) = (path for path in (fleet.directory / "pending" / "targets").rglob("*") if path.is_file())
    staged.write_bytes(b"policy 3")
    with pytest.raises(ContentMismatch, match="does not match"):
        fleet.publish("policies")
    staged.unlink()
    with pytest.raises(BadInput, match="'policies/fleet' is not beside it"):
        fleet.publish("policies")
    assert client.read(fleet.now, "policies/fleet") == b"policy 1"


def test_a_published_target_that_rotted_on_disk_is_noticed(fleet: Fleet) -> None:
    (stored,) = (fleet.directory / "targets" / "policies").iterdir()
    stored.write_bytes(b"policy X")
    with pytest.raises(ContentMismatch):
        fleet.repository.read_target("policies", "policies/fleet")
    assert fleet.repository.read_target("policies", "policies/none") is None
    with pytest.raises(BadInput, match="snapshot: signs no targets"):
        fleet.repository.target_paths("snapshot")


def test_several_roles_are_published_as_one(fleet: Fleet, client: Client) -> None:
    fleet.repository.stage("patches", RELEASE, now=fleet.now)
    fleet.repository.stage("policies", {"policies/fleet": b"policy 2"}, now=fleet.now)
    fleet.sign("patches")
    fleet.sign("policies")
    fleet.publish("patches", "policies")
    assert fleet.repository.timestamp_version() == 2
    updater = client.refresh(fleet.now)
    assert (read(updater, MANIFEST), read(updater, "policies/fleet")) == (b"manifest", b"policy 2")


def test_publishing_with_a_key_that_is_not_the_snapshots_is_refused(fleet: Fleet, client: Client) -> None:
    fleet.repository.stage("policies", {"policies/fleet": b"policy 2"}, now=fleet.now)
    fleet.sign("policies")
    wrong = fleet.signers["timestamp"][0]
    with pytest.raises(NotSigned, match="snapshot: has 0 of 1"):
        fleet.repository.publish(["policies"], snapshot=wrong, timestamp=wrong, now=fleet.now)
    assert client.read(fleet.now, "policies/fleet") == b"policy 1"
    fleet.publish("policies")
    assert client.read(fleet.now, "policies/fleet") == b"policy 2"


def test_publishing_what_is_not_pending_is_refused(fleet: Fleet) -> None:
    with pytest.raises(BadInput, match="no version of patches is pending"):
        fleet.publish("patches")


def test_what_expired_while_it_waited_must_be_staged_again(fleet: Fleet) -> None:
    fleet.repository.stage("patches", RELEASE, now=fleet.now)
    fleet.sign("patches")
    fleet.wait(days=ROLES["patches"].lifetime.days)
    with pytest.raises(BadInput, match=r"expired at .* while it waited; stage it again"):
        fleet.publish("patches")
    fleet.repository.stage("patches", RELEASE, now=fleet.now)
    assert fleet.repository.pending()[0].signatures == (0, 2)


def test_a_damaged_pending_version_stops_nobody_else(fleet: Fleet, client: Client) -> None:
    fleet.repository.stage("policies", {"policies/fleet": b"policy 2"}, now=fleet.now)
    (fleet.directory / "pending" / "policies.json").write_bytes(b"{")
    fleet.put_online({"schedules/berlin": b"schedule"})
    fleet.release(RELEASE)
    assert client.read(fleet.now, MANIFEST) == b"manifest"
    with pytest.raises(BadInput, match=r"policies\.json: is not TUF metadata"):
        fleet.publish("policies")


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


def test_people_learn_how_much_life_is_left_and_staging_nothing_renews_it(fleet: Fleet, client: Client) -> None:
    fleet.wait(days=90)
    left = fleet.repository.offline_life_left(now=fleet.now)
    assert set(left) == set(OFFLINE)
    assert left["patches"] == pytest.approx(0.5)
    assert left["policies"] == pytest.approx(1 - 90 / 365)
    for role in ("patches", "root"):
        fleet.repository.stage(role, {}, now=fleet.now)
        fleet.sign(role)
    fleet.publish("patches", "root")
    left = fleet.repository.offline_life_left(now=fleet.now)
    assert (left["patches"], left["root"]) == (1.0, 1.0)
    assert fleet.repository.expiries()["root"] == fleet.now + ROLES["root"].lifetime
    fleet.renew()
    assert client.refresh(fleet.now)._trusted_set.root.version == 2
    fleet.wait(days=400)
    assert set(fleet.repository.offline_life_left(now=fleet.now).values()) == {0.0}


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
