# SPDX-License-Identifier: Apache-2.0
"""Transport files by SHA-256: `payloads/<sha256>` is served, `payloads/.staged/<sha256>` waits for signatures.

A file here is ours: it was copied, never linked, from what an administrator named, so that nobody who edits the
original edits what is served.
"""

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from p2pd.host.atomic_file import sync_directory
from signing.errors import BadInput, ContentMismatch
from signing.manifest import Content

_CHUNK_BYTES = 1_048_576


class PayloadShelf:
    """The directory of served payloads, and the one beneath it of those that wait."""

    def __init__(self, payloads: Path) -> None:
        self._served = payloads
        self._staged = payloads / ".staged"

    def stage(self, source: Path, content: Content) -> None:
        """Copy `source` in, if it is what the manifest says. Raises ContentMismatch, or BadInput when it cannot."""
        with _refused(source):
            self._staged.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(prefix=".tmp-", dir=self._staged)
            temporary = Path(name)
            try:
                with os.fdopen(descriptor, "wb") as target, source.open("rb") as file:
                    digest, size = hashlib.sha256(), 0
                    while (chunk := file.read(_CHUNK_BYTES)) and size <= content.size:
                        digest.update(chunk)
                        size += len(chunk)
                        target.write(chunk)
                    _check(source, content, digest.hexdigest(), size)
                    target.flush()
                    os.fchmod(target.fileno(), 0o644)  # what a web server serves; a release is no secret
                    os.fsync(target.fileno())
                temporary.rename(self._staged / content.sha256)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            sync_directory(self._staged)

    def serve(self, *contents: Content) -> None:
        """Put staged files where they are served, hashed again. Doing so twice changes nothing.

        Raises ContentMismatch, or BadInput when neither place has one of them; those before it are served then.
        """
        for content in contents:
            self._serve(content)
        if contents:
            with _refused(self._served):
                sync_directory(self._served)

    def _serve(self, content: Content) -> None:
        served, staged = self._served / content.sha256, self._staged / content.sha256
        with _refused(served):
            if served.is_file():
                _verify(served, content)
                return
            if not staged.is_file():
                raise BadInput(content.sha256, "the transport file is gone", "build the release again")
            _verify(staged, content)
            staged.rename(served)

    def find(self, content: Content) -> Path | None:
        """Where a served file lies, not verified; None when it does not."""
        path = self._served / content.sha256
        return path if path.is_file() else None

    def unstage(self, content: Content) -> None:
        """Forget a staged file."""
        with _refused(self._staged):
            (self._staged / content.sha256).unlink(missing_ok=True)


def _verify(path: Path, content: Content) -> None:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        _check(path, content, digest, os.fstat(file.fileno()).st_size)


def _check(path: Path, content: Content, sha256: str, size: int) -> None:
    if (sha256, size) != (content.sha256, content.size):
        expected = f"{content.size} bytes, SHA-256 {content.sha256}"
        raise ContentMismatch(str(path), expected=expected, actual=f"{size} bytes, SHA-256 {sha256}")


@contextmanager
def _refused(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        remedy = "free some space" if problem.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise BadInput(problem.filename or str(path), f"{problem.strerror}", remedy) from problem
