# SPDX-License-Identifier: Apache-2.0
"""What this endpoint remembers of each product: one msgpack file a product, replaced durably.

Each file is whole at any instant, for itself; the directory is flushed once for all that are written together.
"""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote, unquote

import msgpack

from p2pd.host.atomic_file import read_bounded, sync_directory
from p2pd.host.group_commit import GroupCommit
from p2pd.host.telemetry import log
from p2pd.ports_control import ProductRecord, RunSync, StorageFailed
from signing.durable_file import replace_together
from signing.errors import BadInput
from signing.file_tree import remove_unfinished
from signing.structure import build, flatten

MAX_RECORD_BYTES = 1_048_576  # a manifest (256 KiB) and a thousand digests
MOST_TOGETHER = 64  # 64 MiB at the very most, a few hundred KiB in truth
_SUFFIX = ".record"

_log = log(__name__)


class JournalFiles:
    """Implements `p2pd.ports_control.Journal` in a directory that only the daemon writes."""

    def __init__(self, directory: Path, run_sync: RunSync) -> None:
        self._directory = directory
        self._run_sync = run_sync
        self._commit = GroupCommit(self._save_together, most=MOST_TOGETHER)

    async def load(self) -> dict[str, ProductRecord]:
        """All records. One that cannot be read is set aside under another name: the release is judged anew."""
        try:
            return await self._run_sync(self._load)
        except OSError as problem:
            raise StorageFailed(problem) from problem

    async def save(self, product: str, record: ProductRecord) -> None:
        """Replace one product's record; it is durable when this returns. Those saved at once share a turn."""
        data: bytes = msgpack.packb(flatten(record), use_bin_type=True)
        try:
            await self._commit.put((self._path(product), data))
        except OSError as problem:
            raise StorageFailed(problem) from problem

    async def _save_together(self, files: Sequence[tuple[Path, bytes]]) -> Sequence[OSError | None]:
        return await self._run_sync(_replace_together, tuple(files))

    def _load(self) -> dict[str, ProductRecord]:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        remove_unfinished(self._directory)
        records = {}
        for path in sorted(self._directory.glob(f"*{_SUFFIX}")):
            try:
                raw = msgpack.unpackb(read_bounded(path, MAX_RECORD_BYTES))
                records[unquote(path.name.removesuffix(_SUFFIX))] = build(ProductRecord, raw, where=str(path))
            except (BadInput, ValueError, msgpack.exceptions.UnpackException) as problem:
                _log.error("unreadable record set aside", path=str(path), why=str(problem))
                path.replace(path.with_suffix(".unreadable"))
        return records

    def _path(self, product: str) -> Path:
        return self._directory / (quote(product, safe="") + _SUFFIX)


def _replace_together(files: Sequence[tuple[Path, bytes]]) -> list[OSError | None]:
    """Replace files of one directory, each in one step; whatever does not fail is durable on return."""
    failures: list[OSError | None] = [None] * len(files)
    try:
        replace_together(files, mode=0o600)
    except OSError:  # whose fault is it? One after the other tells, and stores the rest
        failures = [_replace(path, data) for path, data in files]
    try:
        sync_directory(files[0][0].parent)
    except OSError as problem:
        return [problem for _ in files]
    return failures


def _replace(path: Path, data: bytes) -> OSError | None:
    """None once `path` holds `data`; until its directory is flushed, a power cut may bring back what was there."""
    try:
        replace_together([(path, data)], mode=0o600)
    except OSError as problem:
        return problem
    return None
