# SPDX-License-Identifier: Apache-2.0
"""Releases from staging to publication, told to the end: what python-tuf's own client makes of the result."""

import pytest
from securesystemslib.signer import CryptoSigner, Key, SecretsHandler, Signature, Signer
from tuf.api.metadata import Metadata, Targets

from signing.edition import Edition
from signing.errors import BadInput, ContentMismatch, KeyUnavailable, NotSigned
from signing.next_edition import OnlineSigners, next_edition
from signing.repository import Repository
from signing.repository_files import RepositoryFiles
from signing.roles import ROLES
from tests.signing.fleet import MANIFEST, RELEASE, Client, Fleet, read


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
