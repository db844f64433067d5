# SPDX-License-Identifier: Apache-2.0
"""What administrators have (a directory, a wheel or zip, a tar, a .deb) to a deterministic payload and its transport.

The payload is the canonical tar of the source's content; its SHA-256 depends on nothing else: not on machine, umask,
owner, time, order, or kind of source. The transport is one zstd frame around it, the same for the same payload, level
and release of libzstd, however many threads worked on it.

Synchronous, and busy for seconds to minutes: call it in a worker thread.
"""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import zstandard

from p2pd.host.atomic_file import sync_directory
from seeds.adapters.canonical_tar import tar_bytes, tar_size
from seeds.adapters.sources.opening import Source, open_source
from seeds.adapters.sources.refusals import DiskFull
from seeds.adapters.sources.scratch import write_all, writing_below
from seeds.adapters.sources.suggestions import Suggested
from signing.bounds import MAX_PAYLOAD_BYTES
from signing.errors import BadInput
from signing.manifest import Content

__all__ = ["BuiltPayload", "DiskFull", "Suggested", "build_payload"]

# Measured with two threads on 500 MB of real packages: level 9 takes 8 s and 92 MB of memory and leaves 159 MB, level
# 12 15 s for 158 MB, level 15 52 s for 157 MB, level 19 156 s, 380 MB of memory, for 141 MB. Small payloads afford 19.
BEST_LEVEL, FAST_LEVEL = 19, 9
BEST_LEVEL_UP_TO_BYTES = 16 * 2**20
# What one thread works on. A payload of 4 GB takes 146 MB to build with 4 MiB and two threads, and twice that with 8;
# 364 MB of real packages become 0.3 % larger for it (2 MiB: 1.0 %), as a job sees less of what came before.
JOB_BYTES = 4 * 2**20
STEP_BYTES = 1 << 20  # between two reports of progress
WINDOW_LOG = 23  # 8 MiB, at most: every endpoint needs as much memory to decompress


@dataclass(frozen=True, kw_only=True)
class BuiltPayload:
    """What a manifest says of a payload, where its transport lies, and what the source says about itself."""

    payload: Content
    transport: Content
    transport_path: Path
    suggested: Suggested


def build_payload(
    source: Path,
    into: Path,
    *,
    level: int | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> BuiltPayload:
    """Build the payload of `source`, and put its transport durably at `into/<SHA-256 of the transport>`.

    `level` is zstd's, 1-19, chosen by the payload's size if None. `progress` gets the bytes of the payload that are
    done and their total; what it raises ends the build. Raises BadInput for a source that may not or cannot become a
    payload, and its subclass DiskFull; then `into` holds what it held before. The directory `into` is made if missing.
    """
    if level is not None and not 1 <= level <= BEST_LEVEL:
        raise ValueError(f"level {level} must be between 1 and {BEST_LEVEL}")
    with writing_below(into):
        into.mkdir(parents=True, exist_ok=True)
    with _new_file(into) as (descriptor, keep):
        with open_source(source, into) as opened:
            payload, transport = _write(opened, partial(write_all, descriptor, directory=into), level, progress)
        # Only now is it known that the source has not changed meanwhile.
        path = into / transport.sha256
        keep(path)
    return BuiltPayload(payload=payload, transport=transport, transport_path=path, suggested=opened.suggested)


def _write(
    source: Source, write: Callable[[bytes], None], level: int | None, progress: Callable[[int, int], None]
) -> tuple[Content, Content]:
    total = tar_size(source.entries)
    if total > MAX_PAYLOAD_BYTES:
        raise BadInput(source.name, f"makes a payload of {total} bytes, at most {MAX_PAYLOAD_BYTES}", "split the patch")
    compressor = _compressor(total, level).compressobj(size=total)
    payload, transport = _Tally(), _Tally()
    progress(0, total)
    for chunk in _gathered(tar_bytes(source.entries, source.name)):
        payload.add(chunk)
        write(transport.add(compressor.compress(chunk)))
        progress(payload.size, total)
    write(transport.add(compressor.flush()))
    return payload.content(), transport.content()


def _gathered(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """`pieces` in fewer, larger ones: a step for each header of 500,000 small files would take longer than the work."""
    gathered = bytearray()
    for piece in pieces:
        gathered += piece
        if len(gathered) >= STEP_BYTES:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)


class _Tally:
    """Size and SHA-256 of the bytes that pass through `add`."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self.size = 0

    def add(self, data: bytes) -> bytes:
        self._digest.update(data)
        self.size += len(data)
        return data

    def content(self) -> Content:
        return Content(sha256=self._digest.hexdigest(), size=self.size)


def _compressor(size: int, level: int | None) -> zstandard.ZstdCompressor:
    if level is None:
        level = BEST_LEVEL if size <= BEST_LEVEL_UP_TO_BYTES else FAST_LEVEL
    # Any number of threads gives the same bytes, but none at all gives others. Each needs 25 MB at level 9, 100 at 19.
    threads = min(os.cpu_count() or 1, 4 if level < 16 else 2)
    own = zstandard.ZstdCompressionParameters.from_level(level, source_size=size)
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level,
        source_size=size,
        window_log=min(own.window_log, WINDOW_LOG),
        threads=threads,
        job_size=JOB_BYTES,
        write_content_size=True,
        write_checksum=True,
        write_dict_id=False,
    )
    return zstandard.ZstdCompressor(compression_params=parameters)


@contextlib.contextmanager
def _new_file(directory: Path) -> Iterator[tuple[int, Callable[[Path], None]]]:
    # A kill in the middle may leave one `.tmp-…` file behind; anything else leaves none.
    with writing_below(directory):
        descriptor, name = tempfile.mkstemp(prefix=".tmp-", dir=directory)
    temporary = Path(name)
    with contextlib.ExitStack() as cleanup:
        cleanup.callback(temporary.unlink, missing_ok=True)
        cleanup.callback(os.close, descriptor)

        def keep(path: Path) -> None:
            with writing_below(directory):
                os.fchmod(descriptor, 0o644)
                os.fsync(descriptor)
                temporary.replace(path)
                sync_directory(directory)

        yield descriptor, keep
