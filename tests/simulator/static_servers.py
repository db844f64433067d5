# SPDX-License-Identifier: Apache-2.0
"""HTTPS servers of static files, as a trust client sees them: directories by host name, some of them out of reach."""

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from tuf.api.exceptions import DownloadError
from tuf.ngclient import FetcherInterface

from signing.mirror import DirectoryFetcher


class StaticServers(FetcherInterface):
    """`find` gives the directory that a host serves now, or None when it does not answer."""

    def __init__(self, find: Callable[[str], Path | None]) -> None:
        self._find = find

    def _fetch(self, url: str) -> Iterator[bytes]:
        parts = urlsplit(url)
        directory = self._find(parts.hostname or "")
        if directory is None:
            raise DownloadError(f"{url}: does not answer")
        yield from DirectoryFetcher(directory).fetch(f"mirror:{parts.path.removeprefix('/')}")
