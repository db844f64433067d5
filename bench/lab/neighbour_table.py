# SPDX-License-Identifier: Apache-2.0
"""Room in the kernel's neighbour table while labs stand.

The table (IPv4's, and IPv6's) is one for all namespaces, and its default 1,024 entries overflow, at about 30 hosts that
all talk to each other, to "no route to host". Its limits are the machine's, so they are put back when the last lab
goes. Labs of several processes share the table: each leaves a claim in a directory, and there is room for the sum of
the claims. That of a process that was killed is dropped by the next; the values from before are kept there too.
"""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.lab.commands import LabError
from bench.lab.leftovers import is_alive

CLAIMS = Path("/run/p2pd-lab")
SETTINGS = Path("/proc/sys/net")
_LIMITS = [f"{family}/neigh/default/gc_thresh{number}" for family in ("ipv4", "ipv6") for number in (3, 2, 1)]
_SHARES = {"gc_thresh1": 1.0, "gc_thresh2": 1.5, "gc_thresh3": 2.0}  # of the entries that are wanted
_ORIGINAL, _PARTIAL, _LOCK = "original", "partial", "lock"


@contextmanager
def room_for_neighbours(owner: str, hosts: int) -> Iterator[None]:
    """While it lasts, the table has room for `hosts` that all know each other. `owner` is the lab's prefix.

    Raises LabError when the machine does not let it.
    """
    try:
        with _locked():
            _keep_original()
            (CLAIMS / owner).write_text(str(hosts * hosts))
            _apply()
    except OSError as error:
        raise LabError(f"cannot make room in the neighbour table: {error}") from error
    try:
        yield
    finally:
        with _locked():
            (CLAIMS / owner).unlink(missing_ok=True)
            _apply()


@contextmanager
def _locked() -> Iterator[None]:
    CLAIMS.mkdir(mode=0o755, exist_ok=True)
    with (CLAIMS / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _keep_original() -> None:
    original = CLAIMS / _ORIGINAL
    if not original.exists():  # else a lab stands, or one was killed before it could put them back
        values = {name: int((SETTINGS / name).read_text()) for name in _LIMITS if (SETTINGS / name).exists()}
        (CLAIMS / _PARTIAL).write_text(json.dumps(values))
        (CLAIMS / _PARTIAL).rename(original)


def _apply() -> None:
    """Set the limits to what all claims need together, or back if there is none left."""
    wanted = 0
    for claim in CLAIMS.glob("p2pd-lab-*"):
        if is_alive(claim.name):
            wanted += int(claim.read_text())
        else:
            claim.unlink()
    original: dict[str, int] = json.loads((CLAIMS / _ORIGINAL).read_text())
    for name, value in original.items():
        setting = SETTINGS / name
        limit = max(value, round(wanted * _SHARES[setting.name]))
        if int(setting.read_text()) != limit:
            setting.write_text(str(limit))
    if not wanted:
        (CLAIMS / _ORIGINAL).unlink()
