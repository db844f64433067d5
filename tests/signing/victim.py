# SPDX-License-Identifier: Apache-2.0
"""An endpoint on which attacks on the trust client are tried."""

from datetime import datetime
from pathlib import Path

from signing.codec import encode
from signing.policy import POLICY_TARGET
from signing.trust import TrustClient
from tests.signing.fleet_documents import NOW, add_release, make_manifest, make_policy, serve_fleet
from tests.signing.repository_simulator import RepositorySimulator


class Victim:
    """An endpoint that has installed tool 1.0 and looks for 2.0."""

    def __init__(self, directory: Path, fleet: RepositorySimulator) -> None:
        self.directory = directory
        self.fleet = fleet
        self.time = NOW
        TrustClient.bootstrap(directory / "metadata", fleet.files["metadata/1.root.json"])
        self.client = TrustClient(
            directory / "metadata",
            directory / "targets",
            fleet,
            metadata_url=fleet.metadata_url,
            targets_url=fleet.targets_url,
            now=self.now,
        )

    def now(self) -> datetime:
        return self.time

    def look(self) -> None:
        """What the daemon does: refresh, read the policy, read the new release's manifest."""
        self.client.refresh()
        self.client.policy()
        self.client.manifest("tool", "2.0")


def installed_victim(directory: Path) -> Victim:
    """A victim that has verified release 1.0 of an honest fleet."""
    victim = Victim(directory, serve_fleet())
    victim.client.refresh()
    assert victim.client.policy() == make_policy()
    assert victim.client.manifest("tool", "1.0").manifest == make_manifest()
    return victim


def honest_release(fleet: RepositorySimulator) -> None:
    """Release 2.0 and a second version of the policy."""
    add_release(fleet, make_manifest("2.0", 2))
    fleet.add_target("policies", POLICY_TARGET, encode(make_policy(2)))
    fleet.release("targets", "patches", "policies")


def names(directory: Path) -> list[str]:
    """What lies in a directory."""
    return sorted(file.name for file in directory.iterdir())
