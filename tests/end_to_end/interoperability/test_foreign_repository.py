# SPDX-License-Identifier: Apache-2.0
"""A static repository made without python-tuf: JSON and signatures by hand, in other implementations' habits.

Indented files, keys in any order, key identifiers that are no hash, Z-times, ECDSA beside Ed25519, SHA-512 beside
SHA-256, a `custom` field: what go-tuf, rust-tuf and tuf-on-ci are known to write.
"""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.end_to_end.interoperability.trust_lab import TrustLab

CONTENT = b"made elsewhere"
EXPIRES = (datetime.now(UTC) + timedelta(days=30)).strftime("%Y-%m-%dT%H:%M:%SZ")


def canonical(value: Any) -> bytes:
    """OLPC canonical JSON, which unlike JSON leaves line ends in strings as they are."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).replace("\\n", "\n").encode()


class HandMade:
    def __init__(self) -> None:
        self.online = ed25519.Ed25519PrivateKey.generate()
        self.offline = ec.generate_private_key(ec.SECP256R1())
        raw = self.online.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()
        pem = self.offline.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        self.keys = {
            "the-online-key": {
                "keytype": "ed25519",
                "scheme": "ed25519",
                "keyval": {"public": raw},
                "x-uri": "kms://1",
            },
            "the-offline-key": {"scheme": "ecdsa-sha2-nistp256", "keyval": {"public": pem}, "keytype": "ecdsa"},
        }

    def sign(self, signed: dict[str, Any], *keyids: str) -> bytes:
        common = {"version": 3, "spec_version": "1.0.19", "expires": EXPIRES}
        payload = canonical(common | signed)
        made = {
            "the-online-key": lambda: self.online.sign(payload),
            "the-offline-key": lambda: self.offline.sign(payload, ec.ECDSA(hashes.SHA256())),
        }
        signatures = [{"sig": made[keyid]().hex(), "keyid": keyid} for keyid in keyids]
        return json.dumps({"signed": common | signed, "signatures": signatures}, indent=4).encode()

    def files(self) -> dict[str, bytes]:
        def role(keyid: str) -> dict[str, Any]:
            return {"keyids": [keyid], "threshold": 1}

        delegated = self.sign(
            {
                "_type": "targets",
                "targets": {
                    "team/tool": {
                        "length": len(CONTENT),
                        "hashes": {
                            "sha512": hashlib.sha512(CONTENT).hexdigest(),
                            "sha256": hashlib.sha256(CONTENT).hexdigest(),
                        },
                        "custom": {"made-by": ["another", {"implementation": 1}]},
                    }
                },
            },
            "the-offline-key",
        )
        targets = self.sign(
            {
                "_type": "targets",
                "targets": {},
                "delegations": {
                    "keys": {"the-offline-key": self.keys["the-offline-key"]},
                    "roles": [{"name": "team", "paths": ["team/*"], "terminating": True} | role("the-offline-key")],
                },
            },
            "the-offline-key",
        )
        roles = {"root": "the-offline-key", "targets": "the-offline-key"}
        roles |= {"snapshot": "the-online-key", "timestamp": "the-online-key"}
        root = {"_type": "root", "consistent_snapshot": True, "keys": self.keys}
        root["roles"] = {name: role(keyid) for name, keyid in roles.items()}
        meta = {"targets.json": {"version": 3}, "team.json": {"version": 3, "length": len(delegated)}}
        snapshot = self.sign({"_type": "snapshot", "meta": meta}, "the-online-key")
        described = {"version": 3, "hashes": {"sha512": hashlib.sha512(snapshot).hexdigest()}}
        timestamp = self.sign({"_type": "timestamp", "meta": {"snapshot.json": described}}, "the-online-key")
        return {
            "metadata/3.root.json": self.sign(root, "the-offline-key", "the-online-key"),
            "metadata/timestamp.json": timestamp,
            "metadata/3.snapshot.json": snapshot,
            "metadata/3.targets.json": targets,
            "metadata/3.team.json": delegated,
            f"targets/team/{hashlib.sha512(CONTENT).hexdigest()}.tool": CONTENT,
            f"targets/team/{hashlib.sha256(CONTENT).hexdigest()}.tool": CONTENT,
        }


def test_is_understood(lab: TrustLab) -> None:
    lab.repository.files = HandMade().files()
    assert lab.init(lab.repository.files["metadata/3.root.json"]) == 0
    assert lab.refresh() == 0
    assert lab.download("team/tool") == 0
    assert lab.downloaded() == [CONTENT]
    assert lab.trusted() == {"root": 3, "timestamp": 3, "snapshot": 3, "targets": 3, "team": 3}


def test_is_held_to_its_signatures(lab: TrustLab) -> None:
    lab.repository.files = HandMade().files()
    root = lab.repository.files["metadata/3.root.json"]
    path = "metadata/3.team.json"
    lab.repository.files[path] = lab.repository.files[path].replace(b"another", b"a thief")
    assert lab.init(root) == 0
    assert lab.download("team/tool") == 1
    assert lab.downloaded() == []
