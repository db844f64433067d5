# SPDX-License-Identifier: Apache-2.0
"""The namespaces of labs: whose they are, and how they go, with all that runs in them.

A lab's namespaces are named `p2pd-lab-<process id>-<number><part>`. When that process is gone, the lab is left over:
it was killed and could not remove itself. Interfaces go with their namespaces.
"""

import os
import re
import signal
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from bench.lab.commands import LabError, run

_NAMESPACES = Path("/var/run/netns")  # where `ip netns` keeps them
_NAME = re.compile(r"p2pd-lab-(\d+)-(\d+)\D\w*")


def unused_owner() -> str:
    """A prefix for the names of one more lab of this process."""
    taken = {int(match[2]) for name in existing() if (match := _NAME.fullmatch(name)) and int(match[1]) == os.getpid()}
    number = next(number for number in range(len(taken) + 1) if number not in taken)
    return f"p2pd-lab-{os.getpid()}-{number}"


def is_alive(owner: str) -> bool:
    """Whether the process that built the lab with this prefix still runs."""
    return Path("/proc", owner.split("-")[2]).exists()


def existing() -> list[str]:
    """The names of all of the machine's named namespaces."""
    with suppress(FileNotFoundError):
        return sorted(path.name for path in _NAMESPACES.iterdir())
    return []


def remove_leftovers() -> None:
    """Remove labs whose process is gone. Raises LabError when some would not go."""
    remove([name for name in existing() if _NAME.fullmatch(name) and not is_alive(name)])


def remove(names: Sequence[str]) -> None:
    """Remove those of the namespaces that exist, with what runs in them. Raises LabError after it has tried all."""
    present = set(existing())
    doomed = [name for name in names if name in present]
    if not doomed:
        return
    for pid in processes_in(doomed):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    try:
        run("ip", "-force", "-batch", "-", given="".join(f"netns delete {name}\n" for name in doomed))
    except LabError as error:
        # Another run of ours may have removed the same leftovers at the same time.
        if staying := sorted(set(doomed) & set(existing())):
            raise LabError(f"cannot remove {', '.join(staying)}: {error}") from error


def processes_in(names: Collection[str]) -> list[int]:
    """The ids of the processes that run in these namespaces."""
    places = set()
    for name in names:
        with suppress(OSError):
            places.add(_identity(_NAMESPACES / name))
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):  # it ended meanwhile
                if _identity(entry / "ns" / "net") in places:
                    found.append(int(entry.name))
    return found


def _identity(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_dev, facts.st_ino
