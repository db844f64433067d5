# SPDX-License-Identifier: Apache-2.0
"""`p2pd.ports_control.HealthProbe` by script: a test says which releases are ill, and in which of their runs."""

import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import trio

from p2pd.ports_control import ProbeResult
from signing.manifest import CommandCheck, HttpCheck, TcpCheck


def check_of(product: str, version: str) -> CommandCheck:
    """A check that tells the fake which release it judges."""
    return CommandCheck(argv=("judge", product, version))


@dataclass
class FakeHealthProbe:
    """Every release is well but in those `failing` runs. `runs` counts, by product and version."""

    runs: Counter[tuple[str, str]] = field(default_factory=Counter)
    failing: dict[tuple[str, str], range] = field(default_factory=dict)

    def falls_ill(self, product: str, version: str, *, after_runs: int = 0, for_runs: int = sys.maxsize) -> None:
        """Its check fails in so many runs, after it has passed so many times from now on."""
        begin = self.runs[product, version] + after_runs + 1
        self.failing[product, version] = range(begin, min(begin + for_runs, sys.maxsize))

    async def run(self, check: CommandCheck | HttpCheck | TcpCheck, *, slot: Path) -> ProbeResult:
        """See `HealthProbe`."""
        await trio.lowlevel.checkpoint()
        assert isinstance(check, CommandCheck), "make the check with check_of"
        _, product, version = check.argv
        self.runs[product, version] += 1
        if self.runs[product, version] in self.failing.get((product, version), ()):
            return ProbeResult(passed=False, detail=f"judge exited with 1: {product} {version} is ill")
        return ProbeResult(passed=True, detail="judge exited with 0")
