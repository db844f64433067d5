# SPDX-License-Identifier: Apache-2.0
"""The keys that the coordinator signs with by itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from securesystemslib.signer import Signer

from signing.repository import Repository


@dataclass(frozen=True, kw_only=True, repr=False)
class OnlineKeys:
    """One signer for each online role."""

    schedules: Signer
    snapshot: Signer
    timestamp: Signer

    def put_online(self, repository: Repository, put: Mapping[str, bytes], *, now: datetime) -> None:
        """Sign and publish schedules."""
        repository.put_online(put, schedules=self.schedules, snapshot=self.snapshot, timestamp=self.timestamp, now=now)

    def renew(self, repository: Repository, *, now: datetime) -> tuple[str, ...]:
        """Sign anew what has less than half of its life left; the names of those roles."""
        return repository.renew(schedules=self.schedules, snapshot=self.snapshot, timestamp=self.timestamp, now=now)
