# SPDX-License-Identifier: Apache-2.0
"""`p2pd.ports_control.HealthProbe` by script: a test says which releases are ill, and from when on."""

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
    """Every release is well but those in `ill`: by product and version, the runs that still pass."""

    ill: dict[tuple[str, str], int] = field(default_factory=dict)
    runs: Counter[tuple[str, str]] = field(default_factory=Counter)

    def falls_ill(self, product: str, version: str, *, after_runs: int = 0) -> None:
        """Its check passes `after_runs` times, counted from its first run here, and fails from then on."""
        self.ill[product, version] = after_runs

    async def run(self, check: CommandCheck | HttpCheck | TcpCheck, *, slot: Path) -> ProbeResult:
        """See `HealthProbe`."""
        await trio.lowlevel.checkpoint()
        assert isinstance(check, CommandCheck), "make the check with check_of"
        _, product, version = check.argv
        self.runs[product, version] += 1
        passes = self.ill.get((product, version))
        if passes is None or self.runs[product, version] <= passes:
            return ProbeResult(passed=True, detail="judge exited with 0")
        return ProbeResult(passed=False, detail=f"judge exited with 1: {product} {version} is ill")
