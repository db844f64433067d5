# SPDX-License-Identifier: Apache-2.0
"""The body of an httpx answer, chunk by chunk, that may be left at any time, and why a request failed in words."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import trio

CHUNK_BYTES = 65_536


@asynccontextmanager
async def raw_chunks(
    answer: httpx.Response, *, chunk_bytes: int | None = CHUNK_BYTES
) -> AsyncIterator[AsyncIterator[bytes]]:
    """The undecoded body, in chunks of `chunk_bytes`, or (None) as it comes. Leaving the block early ends the request.

    Breaking out of httpx's nested generators would leave them, and the connection, to the garbage collector; cancelled
    at their next read, they end in order.
    """
    chunks = answer.aiter_raw(chunk_bytes)
    try:
        yield chunks
    finally:
        with trio.CancelScope() as leaving:
            leaving.cancel()
            async for _ in chunks:
                pass


def words_of(problem: BaseException) -> str:
    """The deepest cause that says anything: httpx's own texts are empty, or say that all attempts failed."""
    words = type(problem).__name__
    deeper: BaseException | None = problem
    while deeper is not None:
        words = str(deeper) or words
        first = deeper.exceptions[0] if isinstance(deeper, BaseExceptionGroup) else None
        deeper = first or deeper.__cause__ or deeper.__context__
    return words
