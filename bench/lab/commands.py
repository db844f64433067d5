# SPDX-License-Identifier: Apache-2.0
"""Running `ip`, `tc` and their like, and the errors that they give.

Commands for one namespace go in one batch: a lab of 60 hosts is some 1,000 of them, and a process each would take
most of a minute.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence

_SECONDS = 60.0  # for one call, which takes about 0.01: a loaded machine is slow, a stuck one is an error
_SYSTEM_PATHS = os.pathsep.join(
    [os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]
)  # where these commands are, for plain users too
_PACKAGES = {"ip": "iproute2", "tc": "iproute2", "nft": "nftables", "sysctl": "procps"}
_FAILED_LINE = re.compile(r"Command failed -:(\d+)")


class LabError(Exception):
    """The machine refused a step of building, changing or removing the lab."""


def find(command: str) -> str:
    """The path of `command`. Raises LabError that names its Debian package."""
    found = shutil.which(command, path=_SYSTEM_PATHS)
    if found is None:
        raise LabError(f"there is no `{command}` command (Debian: {_PACKAGES.get(command, command)})")
    return found


def exec_in(namespace: str, command: Sequence[str]) -> list[str]:
    """What to start so that `command` runs in `namespace`; `ip` replaces itself by it, so its process id is its own."""
    return [find("ip"), "netns", "exec", namespace, *command]


def run(command: str, *arguments: str, given: str = "") -> str:
    """What `command` prints when it reads `given`. Raises LabError with what it complained of."""
    argv = [find(command), *arguments]
    try:
        # In a session of its own: Ctrl-C is for us, and must not stop the removal half way.
        done = subprocess.run(
            argv, input=given, capture_output=True, text=True, timeout=_SECONDS, check=False, start_new_session=True
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LabError(f"{' '.join(argv)}: {error}") from error
    if done.returncode != 0:
        complaint = done.stderr.strip() or f"exit code {done.returncode}"
        raise LabError(f"{' '.join(argv)}: {complaint}{_failed_line(complaint, given)}")
    return done.stdout


def batch(command: str, lines: Sequence[str], *, namespace: str | None = None) -> None:
    """Give `lines` to one `ip` or `tc`, in `namespace` or in our own. Raises LabError with the line that failed."""
    if not lines:
        return
    where = () if namespace is None else ("-n", namespace)
    run(command, *where, "-batch", "-", given="\n".join(lines) + "\n")


def _failed_line(complaint: str, given: str) -> str:
    match = _FAILED_LINE.search(complaint)
    if match is None:
        return ""
    lines = given.splitlines()
    return f" ({lines[int(match[1]) - 1]})" if int(match[1]) <= len(lines) else ""
