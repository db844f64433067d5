# SPDX-License-Identifier: Apache-2.0
"""One writer at a time in a directory: among threads, among processes, and never left locked by a dead one."""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class DirectoryLock:
    """An exclusive lock on the file `lock` in a directory, released by the kernel when its holder dies.

    The thread that holds it may enter again. It waits as long as another writer holds it.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / "lock"
        # flock knows open files, not threads: threads that share this object are kept apart here.
        self._threads = threading.RLock()
        self._depth = 0

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Hold the lock for the block; the value is True when this is the outermost block of its holder."""
        with self._threads:
            if self._depth:
                yield False
                return
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                self._depth = 1
                yield True
            finally:
                self._depth = 0
                os.close(descriptor)
