# SPDX-License-Identifier: Apache-2.0
"""Hosts that are network namespaces of this machine, joined by one bridge.

    with namespaces(3) as lab:
        subprocess.Popen(lab.hosts[0].argv(["p2pd", "run"]))

Each host has `eth0` with an address in 10.77.0.0/24, a loopback device, and no way out: the bridge is in a namespace
of its own, so nothing of the machine's own network is touched. Multicast reaches all hosts. Namespaces go when the
block ends, however it ends, with whatever still runs in them; those of a run that was killed go with the next run.

Beyond about 30 hosts that all talk to each other, raise `net.ipv4.neigh.default.gc_thresh1` to `3`: the neighbour
table is one for all namespaces, and its default 1,024 entries overflow to "no route to host".
"""

import functools
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

MAX_HOSTS = 200
_NETWORK = "10.77.0"
_NAME = re.compile(r"p2pd-lab-(\d+)-\w+")
_SECONDS = 10.0  # for one call of `ip`, which takes about 0.01
_SYSTEM_PATHS = os.pathsep.join(
    [os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]
)  # where `ip` is, for plain users too


class LabError(Exception):
    """The machine refused a step of building or removing the lab."""


@dataclass(frozen=True, kw_only=True)
class LabHost:
    """One namespace that plays a host."""

    namespace: str
    address: str

    def argv(self, command: Sequence[str]) -> list[str]:
        """What to start so that `command` runs on this host."""
        return exec_in(self.namespace, command)


@dataclass(frozen=True, kw_only=True)
class Lab:
    """Hosts on one bridge; `bridge` is the namespace where the host numbered n has its end of the cable, `h<n>`."""

    hosts: tuple[LabHost, ...]
    bridge: str


@functools.cache
def why_not_available() -> str | None:
    """What this machine lacks, in a sentence; None if a lab can be built."""
    if sys.platform != "linux":
        return "network namespaces exist on Linux only"
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip", path=_SYSTEM_PATHS) is None:
        return "network namespaces need the `ip` command (Debian: iproute2)"
    try:
        with namespaces(1):
            return None
    except LabError as error:
        return f"network namespaces are not permitted here: {error}"


def exec_in(namespace: str, command: Sequence[str]) -> list[str]:
    """What to start so that `command` runs in `namespace`; `ip` replaces itself by it, so its process id is its own."""
    return [_ip_command(), "netns", "exec", namespace, *command]


@contextmanager
def namespaces(count: int) -> Iterator[Lab]:
    """Build a lab of `count` hosts; blocks for about 0.1 s a host. Raises LabError."""
    if not 1 <= count <= MAX_HOSTS:
        raise ValueError(f"a lab has 1 to {MAX_HOSTS} hosts, not {count}")
    remove_leftovers()
    owner = _unused_owner()
    bridge = f"{owner}br"
    hosts = tuple(LabHost(namespace=f"{owner}h{number}", address=f"{_NETWORK}.{number + 1}") for number in range(count))
    try:
        _ip("netns", "add", bridge)
        _ip("-n", bridge, "link", "add", "br0", "type", "bridge")
        _ip("-n", bridge, "link", "set", "br0", "up")
        for number, host in enumerate(hosts):
            _plug(host, bridge, f"h{number}")
        yield Lab(hosts=hosts, bridge=bridge)
    finally:
        _remove([host.namespace for host in hosts] + [bridge])


def remove_leftovers() -> None:
    """Remove labs whose process is gone; one that was killed could not do so itself."""
    dead = [name for name in _namespaces() if (match := _NAME.fullmatch(name)) and not _is_alive(int(match[1]))]
    _remove(dead)


def _plug(host: LabHost, bridge: str, port: str) -> None:
    _ip("netns", "add", host.namespace)
    _ip("-n", host.namespace, "link", "set", "lo", "up")
    _ip("-n", bridge, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
    _ip("-n", bridge, "link", "set", port, "master", "br0", "up")
    _ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", "eth0")
    _ip("-n", host.namespace, "link", "set", "eth0", "up")


def _remove(names: Sequence[str]) -> None:
    """Remove all that exist, with what runs in them; tell of those that would not go when all were tried."""
    existing, failures = set(_namespaces()), []
    for name in names:
        if name not in existing:
            continue
        try:
            for pid in _ip("netns", "pids", name).split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            _ip("netns", "delete", name)
        except LabError as error:
            failures.append(str(error))
    if failures:
        raise LabError("; ".join(failures))


def _unused_owner() -> str:
    """A prefix for the names of one lab; a process may have several."""
    taken = set(_namespaces())
    number = next(number for number in range(1000) if f"p2pd-lab-{os.getpid()}-{number}br" not in taken)
    return f"p2pd-lab-{os.getpid()}-{number}"


def _namespaces() -> list[str]:
    return [line.split()[0] for line in _ip("netns", "list").splitlines() if line.strip()]


def _is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _ip_command() -> str:
    found = shutil.which("ip", path=_SYSTEM_PATHS)
    if found is None:
        raise LabError("there is no `ip` command")
    return found


def _ip(*arguments: str) -> str:
    command = [_ip_command(), *arguments]
    try:
        # In a session of its own: Ctrl-C is for us, and must not stop the removal half way.
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, check=False, start_new_session=True
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LabError(f"{' '.join(command)}: {error}") from error
    if done.returncode != 0:
        raise LabError(f"{' '.join(command)}: {done.stderr.strip() or f'exit code {done.returncode}'}")
    return done.stdout
