# SPDX-License-Identifier: Apache-2.0
"""The conformance suite's categories keys and key rotation, in our words and over HTTP."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from securesystemslib.signer import CryptoSigner, Signer
from tuf.api.metadata import Metadata

from tests.end_to_end.interoperability.trust_lab import TrustLab

KEY_TYPES: dict[str, Callable[[], CryptoSigner]] = {
    "ed25519": CryptoSigner.generate_ed25519,
    "ecdsa-sha2-nistp256": CryptoSigner.generate_ecdsa,
    "ecdsa-sha2-nistp384": lambda: CryptoSigner(ec.generate_private_key(ec.SECP384R1())),
    "rsassa-pss-sha256": CryptoSigner.generate_rsa,
    "rsa-pkcs1v15-sha256": lambda: CryptoSigner.generate_rsa(scheme="rsa-pkcs1v15-sha256"),
}


@pytest.mark.parametrize("scheme", KEY_TYPES)
@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets"])
def test_a_key_type_is_understood_in_each_role(lab: TrustLab, scheme: str, role: str) -> None:
    lab.init()
    signer = KEY_TYPES[scheme]()
    assert signer.public_key.scheme == scheme
    old = lab.repository.signers[role]
    lab.repository.set_keys(role, [signer])
    if role == "root":
        lab.repository.signers["root"] = [*old, signer]
    lab.repository.publish("root")
    lab.repository.signers[role] = [signer]
    lab.repository.release("targets")
    lab.repository.publish("root")
    assert lab.refresh() == 0
    assert lab.trusted() == {"root": 3, "timestamp": 2, "snapshot": 2, "targets": 2}


def test_keys_that_the_role_has_not_been_given_do_not_count(lab: TrustLab) -> None:
    """Root knows the key, but for another role."""
    lab.init()
    lab.repository.signers["snapshot"] = lab.repository.signers["timestamp"]
    lab.repository.release()
    assert lab.refresh() == 1
    assert "snapshot" not in lab.trusted()


def test_a_threshold_that_cannot_be_met_fails(lab: TrustLab) -> None:
    lab.init()
    signers = [CryptoSigner.generate_ed25519() for _ in range(5)]
    lab.repository.set_keys("snapshot", signers, threshold=6)
    lab.repository.publish("root")
    lab.repository.release()
    assert lab.refresh() == 1
    assert "snapshot" not in lab.trusted()


def test_a_signature_given_twice_counts_once(lab: TrustLab) -> None:
    lab.init()
    signer = CryptoSigner.generate_ed25519()
    lab.repository.set_keys("snapshot", [signer], threshold=2)
    lab.repository.publish("root")
    lab.repository.release()
    path = lab.repository.metadata_path("snapshot")
    twice = json.loads(lab.repository.files[path])
    twice["signatures"] = twice["signatures"] * 2
    lab.repository.files[path] = json.dumps(twice).encode()
    assert lab.refresh() == 1
    assert "snapshot" not in lab.trusted()


def test_unknown_signatures_beside_enough_good_ones_do_no_harm(lab: TrustLab) -> None:
    lab.init()
    lab.repository.signers["snapshot"].append(CryptoSigner.generate_ecdsa())
    lab.repository.release()
    assert lab.refresh() == 0


def test_a_root_with_a_key_of_an_unknown_type_is_refused_by_its_name(lab: TrustLab) -> None:
    lab.init()
    strange = CryptoSigner.generate_ed25519()
    strange.public_key.keytype = strange.public_key.scheme = "post-quantum"
    lab.repository.set_keys("snapshot", [*lab.repository.signers["snapshot"], strange], sign=False)
    lab.repository.publish("root")
    lab.repository.release()
    assert lab.refresh() == 1
    assert "Unsupported public key post-quantum" in lab.said
    assert lab.trusted() == {"root": 1}


def test_fields_of_a_key_outside_of_the_specification_are_ignored(lab: TrustLab) -> None:
    lab.init()
    keyid = lab.repository.root.roles["snapshot"].keyids[0]
    lab.repository.root.keys[keyid].unrecognized_fields["keyid_hash_algorithms"] = ["md5"]
    lab.repository.publish("root")
    lab.repository.release()
    assert lab.refresh() == 0
    assert lab.trusted()["root"] == 2


@dataclass(frozen=True)
class Edition:
    """One root: the keys that it names for itself, how many must sign, and who did. Keys are numbers."""

    keys: Sequence[int]
    threshold: int
    signed_by: Sequence[int]


@dataclass(frozen=True)
class Succession:
    name: str
    editions: Sequence[Edition]
    last_is_believed: bool = True


FIVE = range(5)
SUCCESSIONS = (
    Succession("one key follows another", [Edition([1], 1, [1]), Edition([2], 1, [1, 2]), Edition([2], 1, [2])]),
    Succession("with idle signatures", [Edition([1], 1, [3, 1, 4]), Edition([2], 1, [3, 2, 1, 4])]),
    Succession(
        "any three of five", [Edition(FIVE, 3, [0, 2, 4]), Edition(FIVE, 3, [1, 0, 4]), Edition(FIVE, 3, [0, 1, 3])]
    ),
    Succession("one of five replaced", [Edition(FIVE, 3, [0, 2, 4]), Edition([0, 1, 3, 4, 5], 3, [0, 4, 1])]),
    Succession("all five replaced", [Edition(FIVE, 3, [0, 2, 4]), Edition(range(5, 10), 3, [0, 2, 4, 5, 6, 7])]),
    Succession("threshold raised", [Edition([1, 2, 3], 1, [1]), Edition([1, 2, 3], 2, [1, 2])]),
    Succession(
        "threshold lowered", [Edition([1, 2, 3], 2, [1, 2]), Edition([1, 2, 3], 1, [1, 2]), Edition([1, 2, 3], 1, [1])]
    ),
    Succession("a key and the threshold added", [Edition([1], 1, [1]), Edition([1, 2], 2, [1, 2])]),
    Succession("not by the old key", [Edition([1], 1, [1]), Edition([2], 1, [2, 3, 4])], last_is_believed=False),
    Succession("not by the new key", [Edition([1], 1, [1]), Edition([2], 1, [1, 3, 4])], last_is_believed=False),
    Succession(
        "two of three new",
        [Edition(FIVE, 3, [0, 2, 4]), Edition([0, 1, 3, 4, 5], 3, [0, 2, 4])],
        last_is_believed=False,
    ),
    Succession(
        "two of three old",
        [Edition(FIVE, 3, [0, 2, 4]), Edition([0, 1, 3, 4, 5], 3, [0, 4, 5])],
        last_is_believed=False,
    ),
    Succession(
        "a raised threshold missed", [Edition([1, 2, 3], 1, [1]), Edition([1, 2, 3], 2, [2])], last_is_believed=False
    ),
    Succession(
        "the old threshold missed", [Edition([1, 2, 3], 2, [1, 2]), Edition([1, 2, 3], 1, [1])], last_is_believed=False
    ),
)


@pytest.fixture(scope="module")
def signers() -> list[Signer]:
    return [CryptoSigner.generate_ed25519() for _ in range(10)]


@pytest.mark.parametrize("succession", SUCCESSIONS, ids=lambda succession: succession.name)
def test_roots_succeed_one_another(lab: TrustLab, signers: list[Signer], succession: Succession) -> None:
    served: list[bytes] = []
    for version, edition in enumerate(succession.editions, start=1):
        lab.repository.root.version = version
        lab.repository.set_keys("root", [signers[key] for key in edition.keys], threshold=edition.threshold)
        lab.repository.signers["root"] = [signers[key] for key in edition.signed_by]
        lab.repository.publish("root", bump=False)
        served.append(lab.repository.files[f"metadata/{version}.root.json"])
    assert lab.init() == 0
    assert lab.refresh() == (0 if succession.last_is_believed else 1)
    trusted = served[-1] if succession.last_is_believed else served[-2]
    assert (lab.metadata_dir / "root.json").read_bytes() == trusted


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
@pytest.mark.parametrize(
    ("edition", "is_believed"),
    [
        (Edition([2], 1, [2]), True),
        (Edition([1], 1, [3, 1, 4]), True),
        (Edition(FIVE, 3, [2, 3, 4]), True),
        (Edition([2], 1, [1, 3, 4]), False),
        (Edition([0, 1, 3, 4, 5], 3, [0, 2, 4]), False),
        (Edition(FIVE, 3, [0, 4]), False),
    ],
)
def test_a_role_is_given_other_keys(
    lab: TrustLab, signers: list[Signer], role: str, edition: Edition, is_believed: bool
) -> None:
    lab.init()
    lab.repository.set_keys(role, [signers[key] for key in edition.keys], threshold=edition.threshold)
    lab.repository.signers[role] = [signers[key] for key in edition.signed_by]
    lab.repository.publish("root")
    lab.repository.release("targets")
    assert lab.refresh() == (0 if is_believed else 1)
    assert (role in lab.trusted()) == is_believed
    if is_believed:
        kept = Metadata.from_file(str(lab.metadata_dir / f"{role}.json"))
        assert kept.signed.version == 2
