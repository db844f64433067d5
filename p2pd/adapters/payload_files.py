# SPDX-License-Identifier: Apache-2.0
"""Transports on disk: `<payloads>/<sha256>/<segment>`, the name that a torrent of one file insists on."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from p2pd.ports import PayloadStoreFull
from p2pd.ports_control import RunSync, StorageFailed
from signing.bounds import check_sha256
from signing.verified import BegunDigest, VerifiedManifest, VerifiedPayload, verify_payload

SPARE_BYTES = 64 * 2**20  # left free beside a payload, so that journal, spool and logs go on


class PayloadFiles:
    """Implements `p2pd.ports_control.PayloadStore` in a directory that only the daemon writes."""

    def __init__(self, directory: Path, run_sync: RunSync) -> None:
        self._directory = directory
        self._run_sync = run_sync
        self._begun: dict[str, BegunDigest] = {}

    def directory(self, sha256: str) -> Path:
        """Where the transport with that digest lies; the digest is checked, since it becomes a path."""
        check_sha256("transport", sha256)
        return self._directory / sha256

    async def make_room(self, sha256: str, size: int) -> None:
        """Raise PayloadStoreFull unless what is still missing of `size` bytes fits, with some to spare."""
        self._begun.pop(sha256, None)  # whoever asks for room is about to write
        with _storage_failures():
            await self._run_sync(self._make_room, sha256, size)

    async def verify(self, manifest: VerifiedManifest, sha256: str, name: str) -> VerifiedPayload:
        """Read the finished transport back, as far as it was not read yet, and hash it. Raises ContentMismatch."""
        verify = partial(verify_payload, begun=self._begun.pop(sha256, None))
        payload: VerifiedPayload = await self._run_sync(verify, manifest, self.directory(sha256) / name)
        return payload

    async def read_ahead(self, sha256: str, name: str, until: int) -> None:
        """Read back and hash what is final of a transport: all before the offset `until`. One at a time for each."""
        begun = self._begun.setdefault(sha256, BegunDigest(self.directory(sha256) / name))
        with _storage_failures():
            await self._run_sync(begun.advance, until)

    async def has(self, sha256: str, name: str) -> bool:
        """Whether a transport, finished or not, lies on disk."""
        with _storage_failures():
            found: bool = await self._run_sync((self.directory(sha256) / name).is_file)
        return found

    async def discard(self, sha256: str) -> None:
        """Remove a transport; nothing happens when it is not there."""
        self._begun.pop(sha256, None)
        with _storage_failures():
            await self._run_sync(_remove, self.directory(sha256))

    async def retain(self, wanted: frozenset[str]) -> None:
        """Remove every transport but these."""
        with _storage_failures():
            await self._run_sync(self._retain, wanted)

    def _make_room(self, sha256: str, size: int) -> None:
        directory = self.directory(sha256)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        present = sum(path.stat().st_blocks * 512 for path in directory.iterdir())
        missing, free = max(0, size - present), shutil.disk_usage(directory).free
        needed = missing + SPARE_BYTES
        if missing and free < needed:
            raise PayloadStoreFull(f"{self._directory}: {needed} bytes are needed, {free} are free")

    def _retain(self, wanted: frozenset[str]) -> None:
        if not self._directory.is_dir():
            return
        for path in self._directory.iterdir():
            if path.name not in wanted:
                _remove(path)


@contextmanager
def _storage_failures() -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise StorageFailed(problem) from problem


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
