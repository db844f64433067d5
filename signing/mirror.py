# SPDX-License-Identifier: Apache-2.0
"""A directory laid out as an origin serves it: written from what is trusted here, read by any other trust client.

    metadata/timestamp.json  metadata/7.snapshot.json  metadata/2.root.json …
    targets/patches/x/1.0/<sha256>.manifest …

The same directory feeds the LAN (served as static files), the privileged installer (which verifies it all again and
so need not trust the writer) and the daemon's own start without a network. File names are the URL-unquoted paths.
"""

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from urllib.parse import unquote

from tuf.api.exceptions import DownloadError, DownloadHTTPError
from tuf.api.metadata import Timestamp
from tuf.ngclient import FetcherInterface

from signing.file_tree import remove_empty_directories, remove_files, write_together
from signing.target_cache import MAX_FILE_NAME_BYTES
from signing.trust import TrustClient
from signing.trusted_state import TrustedState

MIRROR_METADATA_URL = "mirror:metadata/"
MIRROR_TARGETS_URL = "mirror:targets/"
CHUNK_BYTES = 65_536

_SCHEME = "mirror:"
_NOT_THERE = {errno.ENOENT, errno.ENOTDIR}
_NOT_FOUND = 404


class DirectoryFetcher(FetcherInterface):
    """Serves `mirror:metadata/…` and `mirror:targets/…` out of a directory that somebody else may write.

    Only regular files inside of it are read: no `..`, no symbolic link on the way, no pipe or device that would
    block a reader, even if they are put there between two steps.
    """

    def __init__(self, mirror: Path) -> None:
        self._mirror = mirror

    def _fetch(self, url: str) -> Iterator[bytes]:
        # A generator's errors come out while it is iterated, where FetcherInterface.fetch no longer wraps them:
        # so they are made DownloadErrors in here.
        parts = _parts(unquote(url.removeprefix(_SCHEME)))
        if parts is None or not url.startswith(_SCHEME):
            raise DownloadError(f"{url}: names no file in a mirror")
        try:
            with open(_open_inside(self._mirror, parts), "rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk
        except OSError as problem:
            if problem.errno in _NOT_THERE:
                raise DownloadHTTPError(f"{url}: not in the mirror {self._mirror}", _NOT_FOUND) from problem
            raise DownloadError(f"{url}: {problem.strerror or problem} in the mirror {self._mirror}") from problem


class Mirror:
    """The mirror of one repository. Nobody else writes into its directory; readers need no lock."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._condemned: set[str] = set()

    def publish(self, client: TrustClient) -> bool:
        """Write what `client` trusts since its last refresh, with every target of it that was read so far.

        The timestamp is replaced last, and superseded files are deleted one call later, so that a reader finds a
        whole snapshot at any instant. Returns False, having written nothing, when a later refresh failed half way:
        what it left on disk belongs to no whole snapshot, and the next refresh that succeeds mends it.
        Raises OSError, and SourceUnavailable when nothing is trusted yet.
        """
        state = client.state()
        metadata = self._new_metadata(state)
        if metadata is None:
            return False
        timestamp = metadata.pop(f"{Timestamp.type}.json")
        new = ((f"metadata/{name}", data) for name, data in metadata.items())
        write_together(self._to_write(chain(new, self._new_targets(client, state))))
        write_together(self._to_write([(f"metadata/{Timestamp.type}.json", timestamp)]))
        self._delete_superseded(state)
        return True

    def _new_metadata(self, state: TrustedState) -> dict[str, bytes] | None:
        new = {name: root for name, root in state.roots().items() if not self._has(f"metadata/{name}")}
        loaded = state.versions()
        for role, name in state.served_metadata().items():
            is_final = state.is_consistent and role != Timestamp.type and self._has(f"metadata/{name}")
            if role not in loaded or is_final:
                continue
            data = state.metadata(role)
            if data is None:
                return None
            new[name] = data
        return new

    def _new_targets(self, client: TrustClient, state: TrustedState) -> Iterator[tuple[str, bytes]]:
        for target in state.listed():
            path = f"targets/{unquote(state.served_target(target))}"
            if state.is_consistent and self._has(path):
                continue
            data = client.cache.read(target)
            if data is not None:
                yield path, data

    def _delete_superseded(self, state: TrustedState) -> None:
        served = {f"metadata/{name}" for name in state.served_metadata().values()}
        served |= {f"targets/{unquote(state.served_target(target))}" for target in state.listed()}
        listed = {unquote(target.path) for target in state.listed()}
        found, unfinished = self._survey()
        is_complete, superseded = state.is_complete(), set()
        for path in found:
            is_root = path.startswith("metadata/") and path.endswith(".root.json")
            # Of a role that is not loaded nothing is known, so its targets stay.
            is_known = path.startswith("metadata/") or is_complete or _without_hash(path) in listed
            if path not in served and not is_root and is_known:
                superseded.add(path)
        gone = superseded & self._condemned
        remove_files(self._directory / path for path in (*gone, *unfinished))
        if gone:
            remove_empty_directories(self._directory)
        self._condemned = superseded

    def _survey(self) -> tuple[list[str], list[str]]:
        """The files of the mirror, and hidden ones, which killed writers left; relative, in one walk."""
        found, unfinished = list[str](), list[str]()
        root = str(self._directory)
        for folder, _, names in os.walk(root):
            inside = "" if folder == root else f"{folder.removeprefix(root).lstrip('/')}/"
            for name in names:
                (unfinished if name.startswith(".") else found).append(inside + name)
        return found, unfinished

    def _has(self, path: str) -> bool:
        return _parts(path) is not None and (self._directory / path).is_file()

    def _to_write(self, files: Iterable[tuple[str, bytes]]) -> Iterator[tuple[Path, bytes]]:
        """What is not there yet. A path with `..` in it, or too long, is left out: no static server could serve it."""
        for path, data in files:
            file = self._directory / path
            if _parts(path) is not None and not (file.is_file() and file.read_bytes() == data):
                yield file, data


def _parts(path: str) -> list[str] | None:
    parts = path.split("/")
    return parts if all(map(_is_plain, parts)) else None


def _is_plain(part: str) -> bool:
    return part not in {"", ".", ".."} and "\0" not in part and len(os.fsencode(part)) <= MAX_FILE_NAME_BYTES


def _without_hash(path: str) -> str:
    folder, _, name = path.removeprefix("targets/").rpartition("/")
    logical = name.partition(".")[2]
    return f"{folder}/{logical}" if folder else logical


def _open_inside(directory: Path, parts: list[str]) -> int:
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        # O_NONBLOCK: opening a pipe would otherwise wait for its writer.
        file = os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "not a regular file")
    return file
