# SPDX-License-Identifier: Apache-2.0
"""Takes out of one answer what the trust client would otherwise ask for file by file: see `signing.edition_news`.

The client verifies what comes from here as it verifies everything else. What the news do not hold, or all of it where
an origin has no news, is fetched through `inner`.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import IO

from tuf.api.exceptions import DownloadHTTPError, DownloadLengthMismatchError
from tuf.ngclient import FetcherInterface

from signing.edition_news import MAX_NEWS_BYTES, News, decode_news, news_name
from signing.errors import BadInput
from signing.many_targets import ManyAtOnceFetcher

_NOT_FOUND = 404


class NewsFetcher(ManyAtOnceFetcher):
    """For one refresh after the origin told of the edition with that timestamp."""

    def __init__(self, inner: FetcherInterface, *, metadata_url: str, targets_url: str, timestamp_version: int) -> None:
        self._inner = inner
        self._metadata_url = metadata_url
        self._targets_url = targets_url
        self._version = timestamp_version

    @contextmanager
    def download_file(self, url: str, max_length: int) -> Iterator[IO[bytes]]:
        """As `inner` does, from the news where they have it. Raises DownloadError."""
        if url.startswith(self._metadata_url) and self._news.denies(url.removeprefix(self._metadata_url)):
            raise DownloadHTTPError(f"{url}: the origin says that there is none", _NOT_FOUND)
        data = self._files.get(url)
        if data is None:
            with self._inner.download_file(url, max_length) as file:
                yield file
            return
        if len(data) > max_length:
            raise DownloadLengthMismatchError(f"{url}: is longer than {max_length} bytes in the news")
        yield io.BytesIO(data)

    def fetch_many(self, targets_url: str, names: Sequence[str]) -> list[bytes]:
        """As `inner` does, but for what the news have."""
        if targets_url == self._targets_url and all(name in self._news.targets for name in names):
            return [self._news.targets[name] for name in names]
        return self._inner.fetch_many(targets_url, names) if isinstance(self._inner, ManyAtOnceFetcher) else []

    @cached_property
    def _news(self) -> News:
        url = f"{self._metadata_url}{news_name(self._version)}"
        try:
            return decode_news(self._inner.download_bytes(url, MAX_NEWS_BYTES))
        except (DownloadHTTPError, DownloadLengthMismatchError, BadInput):
            return News()  # an older origin, or static files that come from elsewhere

    @cached_property
    def _files(self) -> dict[str, bytes]:
        metadata = {f"{self._metadata_url}{name}": data for name, data in self._news.metadata.items()}
        return metadata | {f"{self._targets_url}{name}": data for name, data in self._news.targets.items()}

    def _fetch(self, url: str) -> Iterator[bytes]:
        return self._inner.fetch(url)  # for the abstract interface alone: clients take `download_file`


def with_news(
    fetcher: FetcherInterface, *, metadata_url: str, targets_url: str, timestamp_version: int
) -> FetcherInterface:
    """`fetcher`, or, when it is told which edition is the newest, one that asks for the news about it first."""
    if timestamp_version == 0:
        return fetcher
    return NewsFetcher(fetcher, metadata_url=metadata_url, targets_url=targets_url, timestamp_version=timestamp_version)
