# SPDX-License-Identifier: Apache-2.0
"""What attackers try, and what the trust client says. The names are those of the TUF specification, section 1.5.2."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import MetaFile, Targets

from signing.codec import encode
from signing.errors import (
    BadInput,
    ContentMismatch,
    Expired,
    NotListed,
    NotSigned,
    RolledBack,
    SigningError,
    SourceUnavailable,
    Untrusted,
)
from signing.manifest import manifest_target
from signing.trust import MAX_TIMESTAMP_BYTES
from signing.trust_anchor import MAX_ROOT_BYTES
from tests.signing.fleet_documents import NOW, make_manifest
from tests.signing.repository_simulator import ENDLESS_CHUNK, RepositorySimulator
from tests.signing.victim import Victim, honest_release, installed_victim, names


@pytest.fixture
def victim(tmp_path: Path) -> Victim:
    return installed_victim(tmp_path)


@dataclass(frozen=True)
class Attack:
    name: str
    mount: Callable[[Victim], None]
    verdict: type[SigningError]


def serve_old_timestamp(victim: Victim) -> None:
    old = victim.fleet.files["metadata/timestamp.json"]
    honest_release(victim.fleet)
    victim.client.refresh()
    victim.fleet.files["metadata/timestamp.json"] = old


def roll_back_snapshot(victim: Victim) -> None:
    victim.fleet.timestamp.snapshot_meta = MetaFile(1)
    victim.fleet.publish("timestamp")


def roll_back_a_role(victim: Victim) -> None:
    honest_release(victim.fleet)
    victim.client.refresh()
    victim.fleet.snapshot.meta["patches.json"] = MetaFile(1)
    victim.fleet.release()


def drop_a_role(victim: Victim) -> None:
    del victim.fleet.snapshot.meta["recalls.json"]
    victim.fleet.release()


def freeze(victim: Victim) -> None:
    victim.time += timedelta(days=31)


def freeze_one_role(victim: Victim) -> None:
    victim.fleet.delegated["patches"].expires = NOW + timedelta(days=1)
    honest_release(victim.fleet)
    victim.time += timedelta(days=2)


def mix_and_match_with_hashes(victim: Victim) -> None:
    victim.fleet.hashes_in_metadata = True
    honest_release(victim.fleet)
    path = victim.fleet.metadata_path("patches")
    victim.fleet.files[path] = victim.fleet.files[path].replace(b"2030-", b"2031-")


def sign_with_unknown_keys(victim: Victim) -> None:
    victim.fleet.signers["patches"] = [CryptoSigner.generate_ed25519() for _ in range(2)]
    honest_release(victim.fleet)


def sign_with_one_stolen_key(victim: Victim) -> None:
    del victim.fleet.signers["patches"][1]
    honest_release(victim.fleet)


def sign_twice_with_one_stolen_key(victim: Victim) -> None:
    del victim.fleet.signers["patches"][1]
    honest_release(victim.fleet)
    path = victim.fleet.metadata_path("patches")
    forged = json.loads(victim.fleet.files[path])
    stolen, missing = forged["signatures"][0], victim.fleet.targets.delegations
    assert missing is not None
    assert missing.roles is not None
    keyids = missing.roles["patches"].keyids
    forged["signatures"] = [{"keyid": keyid, "sig": stolen["sig"]} for keyid in keyids]
    victim.fleet.files[path] = json.dumps(forged).encode()


def sign_with_a_revoked_key(victim: Victim) -> None:
    revoked = victim.fleet.signers["patches"]
    fresh = [CryptoSigner.generate_ed25519() for _ in range(2)]
    victim.fleet.set_keys("patches", fresh, threshold=2)
    honest_release(victim.fleet)
    victim.client.refresh()
    victim.fleet.signers["patches"] = revoked
    victim.fleet.release("patches")


def sign_a_patch_as_another_role(victim: Victim) -> None:
    manifest = make_manifest("2.0", 2)
    victim.fleet.add_target("schedules", manifest_target("tool", "2.0"), encode(manifest))
    victim.fleet.release("schedules")


def take_over_root_without_its_old_keys(victim: Victim) -> None:
    victim.fleet.set_keys("root", [CryptoSigner.generate_ed25519()])
    victim.fleet.publish("root")


def give_root_to_keys_that_never_signed(victim: Victim) -> None:
    victim.fleet.set_keys("root", [CryptoSigner.generate_ed25519()], sign=False)
    victim.fleet.publish("root")


def skip_a_root_version(victim: Victim) -> None:
    victim.fleet.publish("root")
    victim.fleet.publish("root")
    victim.fleet.files["metadata/2.root.json"] = victim.fleet.files["metadata/3.root.json"]


# What a peer or a mirror can do, that holds no key: tamper with the files of an honest release.


def endless_timestamp(fleet: RepositorySimulator) -> None:
    fleet.endless.add("metadata/timestamp.json")


def endless_root(fleet: RepositorySimulator) -> None:
    fleet.endless.add("metadata/2.root.json")


def endless_target(fleet: RepositorySimulator) -> None:
    fleet.endless.add(new_manifest(fleet))


def exchange_a_target(fleet: RepositorySimulator) -> None:
    data = bytearray(fleet.files[new_manifest(fleet)])
    data[-1] ^= 1
    fleet.files[new_manifest(fleet)] = bytes(data)


def truncate_a_target(fleet: RepositorySimulator) -> None:
    fleet.files[new_manifest(fleet)] = fleet.files[new_manifest(fleet)][:-1]


def truncate_metadata(fleet: RepositorySimulator) -> None:
    path = fleet.metadata_path("patches")
    fleet.files[path] = fleet.files[path][:-20]


def alter_metadata(fleet: RepositorySimulator) -> None:
    path = fleet.metadata_path("patches")
    fleet.files[path] = fleet.files[path].replace(b'"length":', b'"length":1')


def nest_metadata_deeply(fleet: RepositorySimulator) -> None:
    fleet.files["metadata/timestamp.json"] = b"[" * 15_000


def mix_and_match(fleet: RepositorySimulator) -> None:
    version = fleet.signed("patches").version
    fleet.files[fleet.metadata_path("patches")] = fleet.files[fleet.metadata_path("patches", version - 1)]


def pass_a_role_off_as_another(fleet: RepositorySimulator) -> None:
    fleet.files["metadata/timestamp.json"] = fleet.files[fleet.metadata_path("snapshot")]


def withhold_metadata(fleet: RepositorySimulator) -> None:
    del fleet.files[fleet.metadata_path("patches")]


def withhold_a_target(fleet: RepositorySimulator) -> None:
    del fleet.files[new_manifest(fleet)]


@dataclass(frozen=True)
class Tampering:
    name: str
    tamper: Callable[[RepositorySimulator], None]
    verdict: type[SigningError]

    def mount(self, victim: Victim) -> None:
        honest_release(victim.fleet)
        self.tamper(victim.fleet)


TAMPERINGS = (
    Tampering("endless data: timestamp", endless_timestamp, ContentMismatch),
    Tampering("endless data: root", endless_root, ContentMismatch),
    Tampering("endless data: target", endless_target, ContentMismatch),
    Tampering("wrong software installation", exchange_a_target, ContentMismatch),
    Tampering("truncated target", truncate_a_target, ContentMismatch),
    Tampering("truncated metadata", truncate_metadata, BadInput),
    Tampering("altered metadata", alter_metadata, NotSigned),
    Tampering("deeply nested metadata", nest_metadata_deeply, BadInput),
    Tampering("mix and match", mix_and_match, RolledBack),
    Tampering("one role's metadata for another's", pass_a_role_off_as_another, Untrusted),
    Tampering("withheld metadata", withhold_metadata, SourceUnavailable),
    Tampering("withheld target", withhold_a_target, SourceUnavailable),
)

ATTACKS = (
    Attack("rollback: an old timestamp", serve_old_timestamp, RolledBack),
    Attack("rollback: an old snapshot under a new timestamp", roll_back_snapshot, RolledBack),
    Attack("rollback: an old role under a new snapshot", roll_back_a_role, RolledBack),
    Attack("rollback: a role vanishes from the snapshot", drop_a_role, Untrusted),
    Attack("indefinite freeze", freeze, Expired),
    Attack("freeze of one role", freeze_one_role, Expired),
    Attack("mix and match against signed hashes", mix_and_match_with_hashes, ContentMismatch),
    Attack("arbitrary installation", sign_with_unknown_keys, NotSigned),
    Attack("key compromise below the threshold", sign_with_one_stolen_key, NotSigned),
    Attack("one stolen key counted twice", sign_twice_with_one_stolen_key, NotSigned),
    Attack("a revoked key", sign_with_a_revoked_key, NotSigned),
    Attack("a role signs outside of its paths", sign_a_patch_as_another_role, NotListed),
    Attack("root without the old keys", take_over_root_without_its_old_keys, NotSigned),
    Attack("root without the new keys", give_root_to_keys_that_never_signed, NotSigned),
    Attack("root versions skipped", skip_a_root_version, RolledBack),
)


@pytest.mark.parametrize("attack", [*ATTACKS, *TAMPERINGS], ids=lambda attack: attack.name)
def test_is_refused_by_its_name_and_takes_nothing_away(attack: Attack | Tampering, victim: Victim) -> None:
    attack.mount(victim)
    victim.fleet.bytes_sent = 0
    with pytest.raises(SigningError) as refusal:
        victim.look()
    assert type(refusal.value) is attack.verdict
    assert victim.fleet.bytes_sent < 2 * MAX_ROOT_BYTES  # nobody was made to read without end
    assert victim.client.policy().version in {1, 2}  # other roles are as readable as before
    assert not [name for name in names(victim.directory / "targets") if "2.0" in name]


@pytest.mark.parametrize("tampering", TAMPERINGS, ids=lambda tampering: tampering.name)
def test_leaves_the_way_open_for_an_honest_source(tampering: Tampering, victim: Victim) -> None:
    honest_release(victim.fleet)
    honest = dict(victim.fleet.files)
    tampering.tamper(victim.fleet)
    with pytest.raises(tampering.verdict):
        victim.look()
    victim.fleet.files = honest
    victim.fleet.endless.clear()
    victim.look()


def test_endless_data_is_cut_at_the_first_chunk_too_many(victim: Victim) -> None:
    endless_timestamp(victim.fleet)
    victim.fleet.bytes_sent = 0
    with pytest.raises(ContentMismatch):
        victim.client.refresh()
    assert victim.fleet.bytes_sent == len(ENDLESS_CHUNK) > MAX_TIMESTAMP_BYTES


def new_manifest(fleet: RepositorySimulator) -> str:
    """Where the repository serves the manifest of the release that the attack is about."""
    signed = fleet.signed("patches")
    assert isinstance(signed, Targets)
    return f"targets/{signed.targets[manifest_target('tool', '2.0')].get_prefixed_paths()[0]}"
