# SPDX-License-Identifier: Apache-2.0
"""A source of bytes that is not asked again, within one refresh, once it has failed to answer at all.

A refresh goes on after single files that are missing. From a source that went away each of them would cost a whole
time limit, and a refresh of a hundred files would take hours to say what the first one said.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

from tuf.api.exceptions import DownloadError, DownloadHTTPError, DownloadLengthMismatchError
from tuf.ngclient import FetcherInterface

from signing.many_targets import ManyAtOnceFetcher


class FailFastFetcher(ManyAtOnceFetcher):
    """Fetches through `inner` until that is unreachable or too slow; from then on every download fails at once."""

    def __init__(self, inner: FetcherInterface) -> None:
        self._inner = inner
        self._failure: str | None = None

    @contextmanager
    def download_file(self, url: str, max_length: int) -> Iterator[IO[bytes]]:
        """As `inner` does. Raises what it raises, and DownloadError for what is not tried any more."""
        if self._failure is not None:
            raise DownloadError(f"{url}: not asked for, since the source failed: {self._failure}")
        try:
            with self._inner.download_file(url, max_length) as file:
                yield file
        except (DownloadHTTPError, DownloadLengthMismatchError):
            raise  # an answer, though not the one that we want
        except DownloadError as problem:
            self._failure = str(problem)
            raise

    def fetch_many(self, targets_url: str, names: Sequence[str]) -> list[bytes]:
        """As `inner` does, if it can. A failure is remembered."""
        if self._failure is not None or not isinstance(self._inner, ManyAtOnceFetcher):
            return []
        try:
            return self._inner.fetch_many(targets_url, names)
        except (DownloadHTTPError, DownloadLengthMismatchError):
            return []  # an older origin, or static files: one by one
        except DownloadError as problem:
            self._failure = str(problem)
            raise

    def forgive(self) -> None:
        """Ask again: what comes now is not part of the same refresh."""
        self._failure = None

    def _fetch(self, url: str) -> Iterator[bytes]:
        return self._inner.fetch(url)  # for the abstract interface alone: clients take `download_file`
