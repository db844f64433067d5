# SPDX-License-Identifier: Apache-2.0
"""Small payloads on disk, where other transports lie too: `<payloads>/<sha256>/<segment>`.

Held are only files that this class wrote, or has read and hashed: nothing unverified leaves this endpoint, and no
half of a torrent does. What others ask for is read from disk each time, so that memory does not grow with payloads.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from p2pd.adapters.payload_files import SPARE_BYTES
from p2pd.host.atomic_file import read_bounded
from p2pd.host.latest import Latest
from p2pd.ports import PayloadStoreFull
from p2pd.ports_control import RunSync, StorageFailed
from signing.bounds import check_sha256
from signing.durable_file import replace_together
from signing.errors import BadInput
from signing.manifest import SMALL_BYTES, Content

T = TypeVar("T")


class SmallShelfFiles:
    """Implements `p2pd.ports_small.SmallShelf` in the directory of `PayloadFiles`."""

    def __init__(self, directory: Path, segment: str, run_sync: RunSync) -> None:
        self.arrivals = Latest(0)
        self._directory = directory
        self._segment = segment
        self._run_sync = run_sync
        self._held: set[str] = set()
        self._expected: set[str] = set()

    def holds(self, sha256: str) -> bool:
        """See `SmallShelf`."""
        return sha256 in self._held

    def expect(self, sha256: str) -> None:
        """See `SmallShelf`."""
        self._expected.add(sha256)

    def expects(self, sha256: str) -> bool:
        """See `SmallShelf`."""
        return sha256 in self._expected

    async def put(self, payloads: Mapping[str, bytes]) -> None:
        """See `SmallShelf`. One turn in a thread for all of them."""
        await self._on_disk(self._put, payloads)
        self._hold(payloads.keys())

    async def adopt(self, contents: Sequence[Content]) -> frozenset[str]:
        """See `SmallShelf`."""
        unknown = [content for content in contents if content.sha256 not in self._held]
        found = await self._on_disk(self._whole, unknown) if unknown else frozenset()
        self._hold(found)
        return frozenset(content.sha256 for content in contents if content.sha256 in self._held)

    async def read(self, digests: Sequence[str], *, most_bytes: int) -> Mapping[str, bytes]:
        """See `SmallShelf`."""
        held = [sha256 for sha256 in digests if sha256 in self._held]
        if not held:
            return {}
        return await self._on_disk(self._read, held, most_bytes)

    def forget(self, sha256: str) -> None:
        """See `SmallShelf`."""
        self._held.discard(sha256)
        self._expected.discard(sha256)

    def _hold(self, digests: Iterable[str]) -> None:
        new = set(digests) - self._held
        if new:
            self._held |= new
            self.arrivals.set(self.arrivals.value + 1)

    async def _on_disk(self, call: Callable[..., T], *args: Any) -> T:
        try:
            return await self._run_sync(call, *args)
        except OSError as problem:
            raise StorageFailed(problem) from problem

    def _put(self, payloads: Mapping[str, bytes]) -> None:
        self._make_room(sum(map(len, payloads.values())))
        paths = {self._path(sha256): data for sha256, data in payloads.items()}
        for path in paths:
            path.parent.mkdir(mode=0o700, exist_ok=True)
        # A name without its bytes would look like a wrong release after a power cut; a missing name is fetched again.
        replace_together(paths.items(), mode=0o600)

    def _make_room(self, size: int) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        disk = os.statvfs(self._directory)
        free = disk.f_bavail * disk.f_frsize
        if free < size + SPARE_BYTES:
            raise PayloadStoreFull(f"{self._directory}: {size + SPARE_BYTES} bytes are needed, {free} are free")

    def _whole(self, contents: Sequence[Content]) -> frozenset[str]:
        return frozenset(
            content.sha256
            for content in contents
            if (data := self._data(content.sha256)) is not None
            and len(data) == content.size
            and hashlib.sha256(data).hexdigest() == content.sha256
        )

    def _read(self, digests: Sequence[str], most_bytes: int) -> Mapping[str, bytes]:
        found: dict[str, bytes] = {}
        total = 0
        for sha256 in digests:
            data = self._data(sha256)
            if data is None:  # somebody tidied up
                continue
            total += len(data)
            if found and total > most_bytes:
                break
            found[sha256] = data
        return found

    def _data(self, sha256: str) -> bytes | None:
        try:
            return read_bounded(self._path(sha256), SMALL_BYTES)
        except (FileNotFoundError, NotADirectoryError, BadInput):
            return None

    def _path(self, sha256: str) -> Path:
        check_sha256("payload", sha256)
        return self._directory / sha256 / self._segment
