# SPDX-License-Identifier: Apache-2.0
"""Many small targets in one answer, for fleets with thousands of releases: a request each would take minutes.

    POST <targets URL>      {"names": [...]}: served names, with their hashes, at most MAX_NAMES
    200                     for each name, in order: length (4 bytes, big-endian) and that many bytes

Length 0: it is not there, or larger than MAX_TARGET_BYTES; ask for it by itself. An answer ends early, after whole
files and one at least, rather than exceed MAX_ANSWER_BYTES. Nothing here is trusted: whoever asks compares hashes.
"""

from abc import abstractmethod
from collections.abc import Iterable, Sequence

from tuf.ngclient import FetcherInterface

from signing.errors import BadInput

MAX_NAMES = 512
MAX_TARGET_BYTES = 65_536
MAX_ANSWER_BYTES = 2**20
_LENGTH_BYTES = 4


class ManyAtOnceFetcher(FetcherInterface):
    """A source that may be asked for many targets at once."""

    @abstractmethod
    def fetch_many(self, targets_url: str, names: Sequence[str]) -> list[bytes]:
        """The contents of the first of `names`, as many as the source gave; b"" for what it has not.

        Nothing at all from a source that cannot do this. Raises DownloadError.
        """


def pack(contents: Iterable[bytes | None]) -> bytes:
    """An answer with as many of `contents` as fit; None for what is not there."""
    answer = bytearray()
    for content in contents:
        data = content or b""
        if answer and len(answer) + _LENGTH_BYTES + len(data) > MAX_ANSWER_BYTES:
            break
        answer += len(data).to_bytes(_LENGTH_BYTES) + data
    return bytes(answer)


def unpack(answer: bytes, *, most: int) -> list[bytes]:
    """The contents in an answer to a question about `most` names. Raises BadInput."""
    found: list[bytes] = []
    at = 0
    while at < len(answer):
        size = int.from_bytes(answer[at : at + _LENGTH_BYTES])
        at += _LENGTH_BYTES
        if size > MAX_TARGET_BYTES or at + size > len(answer) or len(found) == most:
            raise BadInput("answer", f"is no list of at most {most} targets")
        found.append(answer[at : at + size])
        at += size
    return found
