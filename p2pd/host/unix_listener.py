# SPDX-License-Identifier: Apache-2.0
"""A listening Unix socket at a path: what a dead daemon left is replaced, a living one is left alone."""

import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import trio

from signing.errors import BadInput

_BACKLOG = 64
_MAX_PATH_BYTES = 107  # sun_path of Linux, less its final zero


@contextmanager
def listening_at(path: Path, *, others_may_connect: bool) -> Iterator[trio.SocketListener]:
    """Listen at `path` while the block lasts, then remove it. A missing parent directory is made, for us alone.

    With `others_may_connect` other users may open the socket (and pass the directory): the caller then checks who
    they are. Raises BadInput.
    """
    if len(os.fsencode(path)) > _MAX_PATH_BYTES:
        raise BadInput(str(path), f"is longer than the {_MAX_PATH_BYTES} bytes of a socket path", "use a shorter one")
    try:
        path.parent.mkdir(mode=0o711 if others_may_connect else 0o700, parents=True, exist_ok=True)
        with _locked(path.parent):
            _clear(path)
            listener = _bind(path, 0o666 if others_may_connect else 0o600)
            inode = path.lstat().st_ino
    except OSError as problem:
        raise BadInput(str(path), f"cannot listen there ({problem.strerror})") from problem
    try:
        yield listener
    finally:
        # While our socket is open its inode number cannot pass to a successor's.
        with suppress(OSError):  # gone already, or no longer ours to remove: the next start replaces it
            if path.lstat().st_ino == inode:
                path.unlink()
        listener.socket.close()


def _bind(path: Path, mode: int) -> trio.SocketListener:
    unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        unix.bind(os.fspath(path))
        path.chmod(mode)  # nobody can connect before listen(), so there is no moment of other permissions
        unix.listen(_BACKLOG)
        return trio.SocketListener(trio.socket.from_stdlib_socket(unix))
    except BaseException:
        unix.close()
        raise


def _clear(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise BadInput(str(path), "exists and is no socket", "remove it, or configure another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:  # the file outlived its daemon
            path.unlink()
            return
        except BlockingIOError:  # its backlog is full, so somebody listens
            pass
    raise BadInput(str(path), "another daemon is listening there", "stop it, or configure another path")


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the directory's lock, so that of two daemons that start at once neither removes the other's socket."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
