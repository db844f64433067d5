# SPDX-License-Identifier: Apache-2.0
"""What an origin serves as it lies on disk: signed metadata, targets, and payloads by range.

Only names of the exact forms that the publisher writes are looked up, and a symbolic link anywhere below the served
directories ends the search, so that no name and no link leads outside.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import trio
from starlette.requests import Request
from starlette.responses import Response

from p2pd.host.atomic_file import read_bounded
from seeds.adapters.direct_files import DirectFiles, direct_file
from seeds.adapters.ranged_file import RangedFile
from signing.errors import BadInput
from signing.many_targets import MAX_TARGET_BYTES, pack

_FOREVER = "public, max-age=31536000, immutable"
_MAX_TIMESTAMP_BYTES = 65_536
_MAX_NAME_CHARS = 512

_METADATA = re.compile(r"[1-9][0-9]{0,15}\.[a-z][a-z0-9_-]{0,62}\.json")
_PART = r"(?!\.)[A-Za-z0-9._+~:-]{1,255}"
_TARGET = re.compile(rf"(?:{_PART}/){{0,8}}([0-9a-f]{{64}})\.{_PART}")
_PAYLOAD = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class StaticFiles:
    """The served directories. Each method answers None for a name that is not, or must not be, there."""

    metadata: Path
    targets: Path
    payloads: Path
    _direct: DirectFiles = field(default_factory=DirectFiles, init=False, compare=False, repr=False)

    async def serve_metadata(self, name: str, request: Request) -> Response | None:
        """`timestamp.json`, or a versioned file whose content never changes."""
        if name == "timestamp.json":
            return await self._timestamp(request)
        if not _METADATA.fullmatch(name):
            return None
        return await self._immutable(self.metadata, name, "application/json", None, request)

    async def serve_target(self, path: str, request: Request) -> Response | None:
        """A target file under its hash-prefixed name."""
        matched = _TARGET.fullmatch(path) if len(path) <= _MAX_NAME_CHARS else None
        if matched is None:
            return None
        return await self._immutable(self.targets, path, "application/octet-stream", matched[1], request)

    async def serve_targets(self, names: Sequence[str]) -> Response:
        """Many small target files in one answer, under their hash-prefixed names: see `signing.many_targets`."""
        answer = await trio.to_thread.run_sync(pack, map(self._small_target, names))
        return Response(answer, media_type="application/octet-stream", headers={"cache-control": "no-store"})

    def _small_target(self, name: str) -> bytes | None:
        if len(name) > _MAX_NAME_CHARS or not _TARGET.fullmatch(name):
            return None
        found = direct_file(self.targets, name)
        if found is None:
            return None
        try:
            return read_bounded(found.path, MAX_TARGET_BYTES)
        except (OSError, BadInput):
            return None

    async def serve_payload(self, sha256: str, request: Request) -> Response | None:
        """A payload's transport file, by its SHA-256; whole or by range."""
        if not _PAYLOAD.fullmatch(sha256):
            return None
        return await self._immutable(self.payloads, sha256, "application/octet-stream", sha256, request)

    async def _immutable(
        self, root: Path, name: str, media_type: str, sha256: str | None, request: Request
    ) -> Response | None:
        found = await self._direct.find(root, name)
        if found is None:
            return None
        headers = {"cache-control": _FOREVER, "x-content-type-options": "nosniff"}
        if sha256 is not None:
            headers["etag"] = f'"{sha256}"'
        response = RangedFile(found.path, headers=headers, media_type=media_type, stat_result=found.facts)
        if _is_known(request, response.headers["etag"]):
            return Response(status_code=304, headers={**headers, "etag": response.headers["etag"]})
        return response

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


def _is_known(request: Request, etag: str) -> bool:
    wanted = request.headers.get("if-none-match", "")
    return etag in (entry.strip().removeprefix("W/") for entry in wanted.split(","))
