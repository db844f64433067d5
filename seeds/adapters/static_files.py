# SPDX-License-Identifier: Apache-2.0
"""What an origin serves as it lies on disk: signed metadata, targets, and payloads by range.

Only names of the exact forms that the publisher writes are looked up, and a symbolic link anywhere below the served
directories ends the search, so that no name and no link leads outside.
"""

import hashlib
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import trio
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from p2pd.host.atomic_file import read_bounded
from signing.errors import BadInput
from signing.many_targets import MAX_TARGET_BYTES, pack

_FOREVER = "public, max-age=31536000, immutable"
_MAX_TIMESTAMP_BYTES = 65_536
_MAX_NAME_CHARS = 512

_METADATA = re.compile(r"[1-9][0-9]{0,15}\.[a-z][a-z0-9_-]{0,62}\.json")
_PART = r"(?!\.)[A-Za-z0-9._+~:-]{1,255}"
_TARGET = re.compile(rf"(?:{_PART}/){{0,8}}([0-9a-f]{{64}})\.{_PART}")
_PAYLOAD = re.compile(r"[0-9a-f]{64}")


class _LargeChunks(FileResponse):
    """Fewer thread hops per megabyte, and no request that asks for a hundred snippets."""

    chunk_size = 524_288
    max_ranges = 16


@dataclass(frozen=True)
class StaticFiles:
    """The served directories. Each method answers None for a name that is not, or must not be, there."""

    metadata: Path
    targets: Path
    payloads: Path

    async def serve_metadata(self, name: str, request: Request) -> Response | None:
        """`timestamp.json`, or a versioned file whose content never changes."""
        if name == "timestamp.json":
            return await self._timestamp(request)
        if not _METADATA.fullmatch(name):
            return None
        return await _immutable(self.metadata, name, "application/json", None, request)

    async def serve_target(self, path: str, request: Request) -> Response | None:
        """A target file under its hash-prefixed name."""
        matched = _TARGET.fullmatch(path) if len(path) <= _MAX_NAME_CHARS else None
        if matched is None:
            return None
        return await _immutable(self.targets, path, "application/octet-stream", matched[1], request)

    async def serve_targets(self, names: Sequence[str]) -> Response:
        """Many small target files in one answer, under their hash-prefixed names: see `signing.many_targets`."""
        answer = await trio.to_thread.run_sync(pack, map(self._small_target, names))
        return Response(answer, media_type="application/octet-stream", headers={"cache-control": "no-store"})

    def _small_target(self, name: str) -> bytes | None:
        if len(name) > _MAX_NAME_CHARS or not _TARGET.fullmatch(name):
            return None
        found = _regular_file(self.targets, name)
        if found is None:
            return None
        try:
            return read_bounded(found[0], MAX_TARGET_BYTES)
        except (OSError, BadInput):
            return None

    async def serve_payload(self, sha256: str, request: Request) -> Response | None:
        """A payload's transport file, by its SHA-256; whole or by range."""
        if not _PAYLOAD.fullmatch(sha256):
            return None
        return await _immutable(self.payloads, sha256, "application/octet-stream", sha256, request)

    async def _timestamp(self, request: Request) -> Response | None:
        # It is replaced all the time: read it in one go, or its length and its bytes could be of two versions.
        try:
            data = await trio.to_thread.run_sync(read_bounded, self.metadata / "timestamp.json", _MAX_TIMESTAMP_BYTES)
        except (OSError, BadInput):
            return None
        headers = {"cache-control": "no-cache", "etag": f'"{hashlib.sha256(data).hexdigest()}"'}
        if _is_known(request, headers["etag"]):
            return Response(status_code=304, headers=headers)
        return Response(data, media_type="application/json", headers=headers)


async def _immutable(root: Path, name: str, media_type: str, sha256: str | None, request: Request) -> Response | None:
    found = await trio.to_thread.run_sync(_regular_file, root, name)
    if found is None:
        return None
    path, facts = found
    headers = {"cache-control": _FOREVER, "x-content-type-options": "nosniff"}
    if sha256 is not None:
        headers["etag"] = f'"{sha256}"'
    response = _LargeChunks(path, headers=headers, media_type=media_type, stat_result=facts)
    if _is_known(request, response.headers["etag"]):
        return Response(status_code=304, headers={**headers, "etag": response.headers["etag"]})
    return response


def _regular_file(root: Path, name: str) -> tuple[Path, os.stat_result] | None:
    real_root = os.path.realpath(root)
    path = os.path.join(real_root, name)  # noqa: PTH118 (realpath, its counterpart below, speaks strings)
    try:
        facts = os.lstat(path)
        is_direct = os.path.realpath(path, strict=True) == path
    except (OSError, ValueError):
        return None
    return (Path(path), facts) if is_direct and stat.S_ISREG(facts.st_mode) else None


def _is_known(request: Request, etag: str) -> bool:
    wanted = request.headers.get("if-none-match", "")
    return etag in (entry.strip().removeprefix("W/") for entry in wanted.split(","))
