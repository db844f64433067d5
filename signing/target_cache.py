# SPDX-License-Identifier: Apache-2.0
"""Verified target files on disk, one file per target path, verified again each time they are asked for."""

import contextlib
import hashlib
import itertools
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import TargetFile

from signing.errors import BadInput

MAX_FILE_NAME_BYTES = 255  # of Linux file systems
_PARTIAL = ".part"

_numbers = itertools.count(1)


def file_name(target_path: str) -> str:
    """One plain file name for any target path, so that no path can leave its directory. Raises BadInput.

    It is the URL-quoted path, as python-tuf's client names it, but for `.` and `..`, which quoting leaves alone, and
    for names that are too long, which end in the SHA-256 of the path.
    """
    if not target_path:
        raise BadInput("target path", "is empty")
    try:
        name = quote(target_path, "")
    except UnicodeEncodeError:
        raise BadInput(f"target path {target_path!r}", "has characters that UTF-8 cannot carry") from None
    if name.startswith("."):
        name = "%2E" + name[1:]
    if len(name) > MAX_FILE_NAME_BYTES:
        digest = hashlib.sha256(target_path.encode()).hexdigest()
        name = f"{name[: MAX_FILE_NAME_BYTES - len(digest) - 1]}~{digest}"
    return name


class TargetCache:
    """The verified targets in one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def find(self, target: TargetFile) -> Path | None:
        """The file of `target`, if it is there and has the signed length and hashes."""
        path = self.path(target)
        try:
            with path.open("rb") as file:
                target.verify_length_and_hashes(file)
        except (OSError, LengthOrHashMismatchError):
            return None
        return path

    def read(self, target: TargetFile) -> bytes | None:
        """The content of `target`, if it is there; the very bytes returned are those that were verified."""
        try:
            with self.path(target).open("rb") as file:
                data = file.read(target.length + 1)
            target.verify_length_and_hashes(data)
        except (OSError, LengthOrHashMismatchError):
            return None
        return data

    def keep(self, target: TargetFile, data: bytes) -> bool:
        """Put `data` into the file of `target`, unless it is not what was signed; False then."""
        try:
            target.verify_length_and_hashes(data)
        except LengthOrHashMismatchError:
            return False
        with self.replacing(target) as partial:
            partial.write_bytes(data)
        return True

    @contextmanager
    def replacing(self, target: TargetFile) -> Iterator[Path]:
        """Lend a temporary file; when the block ends without error it becomes the file of `target` in one step."""
        path = self.path(target)
        self._directory.mkdir(parents=True, exist_ok=True)
        partial = self._directory / f".{os.getpid()}-{next(_numbers)}{_PARTIAL}"
        try:
            yield partial
            partial.replace(path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                partial.unlink()

    def prune(self, keep: Collection[str]) -> None:
        """Delete the files of all target paths but `keep`, and what a killed process left half written."""
        kept = {file_name(path) for path in keep}
        for path in self._directory.iterdir() if self._directory.is_dir() else ():
            if path.name not in kept and path.is_file():
                path.unlink(missing_ok=True)

    def path(self, target: TargetFile) -> Path:
        """Where the file of `target` belongs, there or not."""
        return self._directory / file_name(target.path)
