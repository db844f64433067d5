# SPDX-License-Identifier: Apache-2.0
"""What this endpoint remembers of each product: one msgpack file a product, replaced durably."""

from pathlib import Path
from urllib.parse import quote, unquote

import msgpack

from p2pd.host.atomic_file import read_bounded, write_atomically
from p2pd.host.telemetry import log
from p2pd.ports_control import ProductRecord, RunSync, StorageFailed
from signing.errors import BadInput
from signing.structure import build, flatten

MAX_RECORD_BYTES = 1_048_576  # a manifest (256 KiB) and a thousand digests
_SUFFIX = ".record"

_log = log(__name__)


class JournalFiles:
    """Implements `p2pd.ports_control.Journal` in a directory that only the daemon writes."""

    def __init__(self, directory: Path, run_sync: RunSync) -> None:
        self._directory = directory
        self._run_sync = run_sync

    async def load(self) -> dict[str, ProductRecord]:
        """All records. One that cannot be read is set aside under another name: the release is judged anew."""
        try:
            return await self._run_sync(self._load)
        except OSError as problem:
            raise StorageFailed(problem) from problem

    async def save(self, product: str, record: ProductRecord) -> None:
        """Replace one product's record; it is durable when this returns."""
        data: bytes = msgpack.packb(flatten(record), use_bin_type=True)
        try:
            await self._run_sync(write_atomically, self._path(product), data)
        except OSError as problem:
            raise StorageFailed(problem) from problem

    def _load(self) -> dict[str, ProductRecord]:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
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
