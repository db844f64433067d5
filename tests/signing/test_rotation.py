# SPDX-License-Identifier: Apache-2.0
"""Keys come and go: what is signed by whom then, and that old and new clients follow."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner, Key

from signing.errors import BadInput, NotSigned
from signing.roles import ROLES
from tests.signing.fleet import Client, Fleet, read

TARGETS = {"patches": "patches/p/1/manifest", "schedules": "schedules/berlin"}


@pytest.fixture
def busy(fleet: Fleet) -> Fleet:
    fleet.release({TARGETS["patches"]: b"manifest"})
    fleet.put_online({TARGETS["schedules"]: b"schedule"})
    return fleet


def new_signers(role: str) -> list[CryptoSigner]:
    return [CryptoSigner.generate_ed25519() for _ in range(ROLES[role].threshold)]


def public(signers: list[CryptoSigner]) -> list[Key]:
    return [signer.public_key for signer in signers]


def rotation(fleet: Fleet, role: str, *, keep_old: bool = True) -> Callable[[], None]:
    """Stage and sign new keys for a role, and return what publishes them; `keep_old`: the old ones still can sign."""
    fresh = new_signers(role)
    at_hand = [signer for name in ROLES if keep_old or name != role for signer in fleet.signers[name]] + fresh
    staged = fleet.repository.stage_rotation(role, public(fresh), now=fleet.now)
    for name in staged:
        for signer in at_hand:
            with contextlib.suppress(BadInput):  # not its role's
                fleet.repository.sign(name, signer)
    fleet.signers[role] = fresh
    online = fleet.online("schedules", "snapshot", "timestamp")
    return lambda: fleet.repository.publish(staged, **online, outgoing=at_hand, now=fleet.now)


def rotate(fleet: Fleet, role: str, *, keep_old: bool = True) -> None:
    """Replace all keys of a role in one go."""
    old, fresh = dict(fleet.signers), new_signers(role)
    fleet.signers[role] = fresh
    at_hand = {name: signers for name, signers in old.items() if keep_old or name != role}
    fleet.repository.rotate(
        role,
        public(fresh),
        signers=[*(signer for signers in at_hand.values() for signer in signers), *fresh],
        **fleet.online("schedules", "snapshot", "timestamp"),
        now=fleet.now,
    )


def sees_everything(client: Client, fleet: Fleet) -> None:
    updater = client.refresh(fleet.now)
    assert read(updater, "patches/p/1/manifest") == b"manifest"
    assert read(updater, "schedules/berlin") == b"schedule"
    assert read(updater, "policies/fleet") == b"policy 1"


@pytest.mark.parametrize("role", ROLES)
def test_any_role_gets_new_keys_and_all_clients_follow(busy: Fleet, client: Client, tmp_path: Path, role: str) -> None:
    sees_everything(client, busy)
    before = busy.repository.keys_of(role)
    rotate(busy, role)
    assert busy.repository.keys_of(role) == busy.keys()[role]
    assert not {key.keyid for key in before} & {key.keyid for key in busy.repository.keys_of(role)}
    sees_everything(client, busy)
    sees_everything(Client(tmp_path / "newcomer", repository=busy.directory, root=busy.root_bytes), busy)
    # Work goes on with the new keys, and with them alone.
    busy.put_online({"schedules/paris": b"schedule"})
    busy.release({"patches/p/2/manifest": b"next"})
    busy.release({"policies/fleet": b"policy 2"}, role="policies")
    assert client.read(busy.now, "patches/p/2/manifest") == b"next"
    assert client.read(busy.now, "schedules/paris") == b"schedule"
    assert busy.repository.pending() == ()


@pytest.mark.parametrize("role", [role for role in ROLES if role not in ("root", "targets")])
def test_a_lost_key_is_replaced_without_its_signature(busy: Fleet, client: Client, role: str) -> None:
    sees_everything(client, busy)
    rotate(busy, role, keep_old=False)
    sees_everything(client, busy)


def test_a_new_root_needs_the_old_keys_and_the_new(busy: Fleet, client: Client) -> None:
    fresh = new_signers("root")
    assert busy.repository.stage_rotation("root", public(fresh), now=busy.now) == ("root",)
    assert busy.repository.pending()[0].signatures == (0, 2)
    assert busy.repository.pending()[0].changes_keys
    assert busy.repository.sign("root", fresh[0]) == (1, 2)
    with pytest.raises(NotSigned, match="root: has 1 of 2"):
        busy.publish("root")
    with pytest.raises(BadInput, match="is signed by key"):
        busy.repository.sign("root", fresh[0])
    assert busy.repository.sign("root", busy.signers["root"][0]) == (2, 2)
    busy.publish("root")
    assert client.refresh(busy.now)._trusted_set.root.version == 2


def test_a_key_that_stays_signs_once_for_both_roots(busy: Fleet) -> None:
    stays, joins = busy.signers["root"][0], CryptoSigner.generate_ed25519()
    busy.repository.stage_rotation("root", public([stays, joins]), threshold=2, now=busy.now)
    assert busy.repository.pending()[0].signatures == (0, 2)
    assert busy.repository.sign("root", stays) == (1, 2)
    assert busy.repository.sign("root", joins) == (2, 2)
    busy.publish("root")
    assert busy.repository.threshold("root") == 2


def test_new_patch_keys_are_not_in_force_before_the_patches_are_signed_with_them(busy: Fleet, client: Client) -> None:
    fresh = new_signers("patches")
    staged = busy.repository.stage_rotation("patches", public(fresh), now=busy.now)
    assert staged == ("targets", "patches")
    busy.sign("targets")
    with pytest.raises(NotSigned, match="patches: has 0 of 2 signatures by its keys"):
        busy.publish("targets")
    sees_everything(client, busy)
    assert busy.repository.sign("patches", fresh[0]) == (1, 2)
    assert busy.repository.sign("patches", busy.signers["patches"][0]) == (1, 2)  # counts under the old keys only
    assert busy.repository.sign("patches", fresh[1]) == (2, 2)
    busy.publish("targets", "patches")
    sees_everything(client, busy)


def test_the_coordinator_publishes_on_while_its_new_schedules_key_waits_for_signatures(
    busy: Fleet, client: Client
) -> None:
    fresh = new_signers("schedules")
    assert busy.repository.stage_rotation("schedules", public(fresh), now=busy.now) == ("targets",)
    busy.put_online({"schedules/berlin": b"later"})
    busy.sign("targets")
    with pytest.raises(NotSigned, match="schedules: has 0 of 1"):
        busy.publish("targets")
    busy.repository.publish(["targets"], **busy.online("snapshot", "timestamp"), schedules=fresh[0], now=busy.now)
    assert client.read(busy.now, "schedules/berlin") == b"later"


def test_rotations_add_up_and_staging_targets_does_not_lose_them(busy: Fleet, client: Client) -> None:
    patches, policies = new_signers("patches"), new_signers("policies")
    busy.repository.stage_rotation("patches", public(patches), now=busy.now)
    busy.repository.stage_rotation("policies", public(policies), now=busy.now)
    busy.repository.stage("targets", {"trust/lab.pem": b"lab"}, now=busy.now)
    busy.signers |= {"patches": patches, "policies": policies}
    for role in ("targets", "patches", "policies"):
        busy.sign(role)
    busy.publish("targets", "patches", "policies")
    assert busy.repository.keys_of("patches") == public(patches)
    assert busy.repository.keys_of("policies") == public(policies)
    sees_everything(client, busy)
    assert client.read(busy.now, "trust/lab.pem") == b"lab"


@pytest.mark.parametrize(
    ("role", "of_role", "threshold", "message"),
    [
        ("patches", "schedules", 1, "roles schedules and patches: share a key"),
        ("timestamp", "root", None, "roles timestamp and root: share a key"),
        ("patches", "policies", None, "asks for 2 signatures of 1 keys"),
        ("snapshot", "patches", 2, "an online role is signed by one key"),
    ],
)
def test_unsafe_keys_are_not_staged(fleet: Fleet, role: str, of_role: str, threshold: int | None, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        fleet.repository.stage_rotation(role, fleet.keys()[of_role], threshold=threshold, now=fleet.now)
    assert fleet.repository.pending() == ()


def test_a_thief_of_replaced_patch_keys_releases_nothing_more(busy: Fleet) -> None:
    stolen = busy.signers["patches"]
    rotate(busy, "patches")
    busy.repository.stage("patches", {"patches/evil/1/manifest": b"evil"}, now=busy.now)
    with pytest.raises(BadInput, match="not to be signed by key"):
        busy.repository.sign("patches", stolen[0])
