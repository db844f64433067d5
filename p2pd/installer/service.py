# SPDX-License-Identifier: Apache-2.0
"""Composition of p2pd-install: its directories, its one lock, recovery, and then the socket."""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from p2pd.host.atomic_file import read_bounded
from p2pd.host.control_socket import serve_requests
from p2pd.host.telemetry import log
from p2pd.host.wall_clock import WallClock
from p2pd.installer.config import InstallerConfig
from p2pd.installer.disk import Disk
from p2pd.installer.fallback import Fallbacks
from p2pd.installer.installers import find_installer
from p2pd.installer.journal import Journal
from p2pd.installer.products import Products
from p2pd.installer.requests import InstallRequests
from p2pd.installer.store import ReleaseStore
from p2pd.installer.verification import Verifier
from signing.errors import BadInput
from signing.trust_anchor import MAX_ROOT_BYTES

_log = log(__name__)


async def serve(config: InstallerConfig, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Recover, then answer requests until cancelled. Raises BadInput for what an administrator can mend."""
    with open_installer(config, Disk(), WallClock()) as requests:
        await serve_requests(
            Path(config.socket),
            requests.handle,
            allowed_uids=frozenset(config.allowed_uids),
            task_status=task_status,
        )


@contextmanager
def open_installer(config: InstallerConfig, disk: Disk, clock: WallClock) -> Iterator[InstallRequests]:
    """Everything behind the socket, recovered from whatever interrupted the last one. One at a time per state_dir."""
    state, root = Path(config.state_dir), Path(config.install_root)
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        root.mkdir(mode=0o755, parents=True, exist_ok=True)
        for directory in (state / "trust", state / "journal", state / "releases"):
            disk.make_directory(directory, 0o700)
        disk.make_directory(root / "products", 0o755)
    except OSError as problem:
        raise BadInput(str(problem.filename), f"cannot be made ({problem.strerror})") from problem
    for directory in (state, root, root / "products"):
        _check_ours(directory)
    with _only_process(state):
        verifier = Verifier(state / "trust", disk, now=clock.now)
        verifier.prepare(_initial_root(Path(config.initial_root)))
        store = ReleaseStore(state / "releases", disk)
        products = Products(
            journal=Journal(state / "journal", disk),
            store=store,
            directory=root / "products",
            find_installer=find_installer,
            fallbacks=Fallbacks(store, verifier),
            disk=disk,
            unix_now=clock.unix,
        )
        products.recover()
        _log.info("ready", products=len(products.records()))
        yield InstallRequests(products, verifier)


def _initial_root(path: Path) -> bytes:
    try:
        return read_bounded(path, MAX_ROOT_BYTES)
    except OSError as problem:
        remedy = "`p2pd enroll` writes the repository's first root there"
        raise BadInput(str(path), f"initial_root cannot be read ({problem.strerror})", remedy) from problem


def _check_ours(directory: Path) -> None:
    """Whoever else may write there could exchange what was verified, so nobody may."""
    facts = directory.stat()
    if facts.st_uid != os.geteuid() or facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        problem = f"belongs to user {facts.st_uid} with mode {stat.S_IMODE(facts.st_mode):o}"
        raise BadInput(str(directory), problem, f"give it to user {os.geteuid()}, writable by nobody else")


@contextmanager
def _only_process(state: Path) -> Iterator[None]:
    descriptor = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            remedy = "stop it, or choose another state_dir"
            raise BadInput(str(state), "is in use by another p2pd-install", remedy) from None
        yield
    finally:
        os.close(descriptor)
