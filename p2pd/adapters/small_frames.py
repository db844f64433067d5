# SPDX-License-Identifier: Apache-2.0
"""What endpoints say to each other about small payloads: digests one way, framed bytes the other.

    POST /payloads?wait=SECONDS     body: SHA-256 digests of 32 bytes each, at most MAX_WANTED
    200                             frames of digest (32 bytes), length (4 bytes, big-endian), and that many bytes

An answer brings payloads in the order of the question, up to MOST_ANSWERED bytes and always one, and nothing else.
"""

from collections.abc import Mapping, Sequence

from p2pd.ports_small import MAX_WANTED
from signing.errors import BadInput
from signing.manifest import SMALL_BYTES

ROUTE = "/payloads"
DIGEST_BYTES = 32
MOST_ANSWERED = 4 * 2**20
MAX_WAIT_SECONDS = 30.0

_LENGTH_BYTES = 4
_HEAD_BYTES = DIGEST_BYTES + _LENGTH_BYTES


def pack_wanted(digests: Sequence[str]) -> bytes:
    """The body of a question."""
    return b"".join(map(bytes.fromhex, digests))


def read_wanted(body: bytes) -> list[str]:
    """The digests that are asked for. Raises BadInput."""
    if not body or len(body) % DIGEST_BYTES or len(body) > MAX_WANTED * DIGEST_BYTES:
        raise BadInput("request", f"must be 1 to {MAX_WANTED} digests of {DIGEST_BYTES} bytes, is {len(body)} bytes")
    return [body[start : start + DIGEST_BYTES].hex() for start in range(0, len(body), DIGEST_BYTES)]


def pack_payloads(payloads: Mapping[str, bytes]) -> bytes:
    """The body of an answer."""
    return b"".join(
        bytes.fromhex(sha256) + len(data).to_bytes(_LENGTH_BYTES) + data for sha256, data in payloads.items()
    )


class FrameReader:
    """Takes an answer apart as it comes. Never holds more than the payloads that were asked for."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        """`sizes`: what was asked for, by digest."""
        self.payloads: dict[str, bytes] = {}
        self._sizes = sizes
        self._buffer = bytearray()

    @property
    def is_whole(self) -> bool:
        """Nothing is begun and not ended."""
        return not self._buffer

    def feed(self, chunk: bytes) -> None:
        """Take in the next bytes. Raises BadInput for what was not asked for, twice the same, or another size."""
        self._buffer += chunk
        while len(self._buffer) >= _HEAD_BYTES:
            sha256, size = self._buffer[:DIGEST_BYTES].hex(), int.from_bytes(self._buffer[DIGEST_BYTES:_HEAD_BYTES])
            if sha256 not in self._sizes or sha256 in self.payloads:
                raise BadInput("answer", f"brings {sha256}, which is not asked for")
            if size != self._sizes[sha256] or size > SMALL_BYTES:
                raise BadInput("answer", f"brings {size} bytes for {sha256}, expected are {self._sizes[sha256]}")
            end = _HEAD_BYTES + size
            if len(self._buffer) < end:
                return
            self.payloads[sha256] = bytes(self._buffer[_HEAD_BYTES:end])
            del self._buffer[:end]
