# SPDX-License-Identifier: Apache-2.0
"""Enrols many endpoints of a lab in one process: `python -m bench.lab.enrolling`, one JSON object a line on stdin.

`p2pd enroll` does the same for one; forty of them would spend a minute of a small machine on starting Python. Endpoints
are files, and may be written from any host that reaches the coordinator.
"""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from p2pd.commands.enroll import run_enroll
from p2pd.config import AgentConfig
from p2pd.host.config_file import load_config


@dataclass(frozen=True, kw_only=True)
class Wish:
    """An endpoint that is to join: its configuration file, its token, its name."""

    config: str
    token: str
    device: str

    def to_line(self) -> str:
        """As `main` reads it."""
        return json.dumps(asdict(self)) + "\n"


def main() -> None:
    """Enrol everybody, one after the other. Raises SigningError or click's exceptions at the first that fails."""
    for line in sys.stdin:
        wish = Wish(**json.loads(line))
        run_enroll(load_config(AgentConfig, Path(wish.config)), wish.token, wish.device, again=False)


if __name__ == "__main__":
    main()
