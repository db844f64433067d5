# SPDX-License-Identifier: Apache-2.0

from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from signing.errors import RolledBack
from tests.signing.victim import Victim, installed_victim


@pytest.fixture
def victim(tmp_path: Path) -> Victim:
    return installed_victim(tmp_path)


class TestFastForwardRecovery:
    """A thief of an online key announces a version so high that honest versions look old; new keys undo that."""

    def test_of_the_timestamp(self, victim: Victim) -> None:
        victim.fleet.timestamp.version = 2**31
        victim.fleet.publish("timestamp")
        victim.client.refresh()
        victim.fleet.timestamp.version = 9
        victim.fleet.set_keys("timestamp", [CryptoSigner.generate_ed25519()])
        victim.fleet.publish("root", "timestamp")
        victim.client.refresh()
        assert victim.client.versions()["timestamp"] == 10

    def test_of_the_snapshot(self, victim: Victim) -> None:
        victim.fleet.snapshot.version = 2**31
        victim.fleet.release()
        victim.client.refresh()
        victim.fleet.snapshot.version = 9
        for role in ("snapshot", "timestamp"):
            victim.fleet.set_keys(role, [CryptoSigner.generate_ed25519()])
        victim.fleet.publish("root")
        victim.fleet.release()
        victim.client.refresh()
        assert victim.client.versions()["snapshot"] == 10

    def test_of_the_targets(self, victim: Victim) -> None:
        victim.fleet.targets.version = 2**31
        victim.fleet.release("targets")
        victim.client.refresh()
        victim.fleet.targets.version = 9
        victim.fleet.set_keys("snapshot", [CryptoSigner.generate_ed25519()])
        victim.fleet.publish("root")
        victim.fleet.release("targets")
        victim.client.refresh()
        assert victim.client.versions()["targets"] == 10

    def test_takes_new_keys_and_not_just_a_new_signature(self, victim: Victim) -> None:
        victim.fleet.timestamp.version = 2**31
        victim.fleet.publish("timestamp")
        victim.client.refresh()
        victim.fleet.timestamp.version = 9
        victim.fleet.publish("root", "timestamp")
        with pytest.raises(RolledBack):
            victim.client.refresh()
