# SPDX-License-Identifier: Apache-2.0
"""The Debian packages that contenders come in: installed when root asks, and none of their services left running.

Debian starts the services that it installs, and enables them for the next boot. A benchmark must not: while packages
are installed, `policy-rc.d` forbids starting, and what was enabled is disabled again.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.lab.programs import find
from signing.errors import BadInput

SERVICES = {"nginx-light": "nginx", "opentracker": "opentracker", "uftp": "uftp"}
POLICY = Path("/usr/sbin/policy-rc.d")
_FORBID = "#!/bin/sh\n# While p2pd's benchmarks install packages, nothing starts; then this is removed.\nexit 101\n"


def install(packages: Sequence[str]) -> None:
    """Install what is missing, or say what a person has to. Raises BadInput."""
    if not packages:
        return
    remedy = f"run: sudo apt-get install {' '.join(packages)}"
    if os.geteuid() != 0 or find("apt-get") is None:
        raise BadInput("Debian packages", f"are missing: {', '.join(packages)}", remedy)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with nothing_starts():
        for arguments in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *packages]):
            done = subprocess.run(
                [find("apt-get") or "apt-get", *arguments], env=environment, stdin=subprocess.DEVNULL, check=False
            )
            if done.returncode != 0:
                raise BadInput("apt-get", f"{arguments[0]} failed with {done.returncode}", remedy)
    _disable([SERVICES[package] for package in packages if package in SERVICES])


@contextmanager
def nothing_starts(policy: Path = POLICY) -> Iterator[None]:
    """Within, Debian's package scripts start no service. A policy that is there already is not touched."""
    if policy.exists():
        yield
        return
    policy.write_text(_FORBID)
    try:
        policy.chmod(0o755)
        yield
    finally:
        policy.unlink()


def _disable(services: Sequence[str]) -> None:
    """For the next boot; where there is no systemd, nothing was enabled."""
    if services and shutil.which("systemctl") is not None and Path("/run/systemd/system").exists():
        subprocess.run(["systemctl", "disable", "--quiet", *services], check=False)  # noqa: S607 (found just now)
