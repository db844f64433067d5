# SPDX-License-Identifier: Apache-2.0
"""python-tuf's errors in our words, sorted by whose fault it is."""

from collections.abc import Iterator
from contextlib import contextmanager

from tuf.api import exceptions
from tuf.api.serialization import DeserializationError

from signing.errors import (
    BadInput,
    ContentMismatch,
    Expired,
    NotSigned,
    RolledBack,
    SourceUnavailable,
    Untrusted,
)


@contextmanager
def blamed(where: str) -> Iterator[None]:
    """Raise errors of the tuf library as ours; `where` names the file, target or address that was at work.

    OSErrors pass: they mean that our own disk failed us, which is nobody's lie.
    """
    try:
        yield
    except DeserializationError as problem:
        raise BadInput(where, f"is not TUF metadata ({_reason(problem)})", "fetch it again from another source") from (
            problem
        )
    except exceptions.ExpiredMetadataError as problem:
        raise Expired(f"{where}: {problem}") from problem
    except exceptions.UnsignedMetadataError as problem:
        raise NotSigned(f"{where}: {problem}") from problem
    except exceptions.BadVersionNumberError as problem:
        raise RolledBack(f"{where}: {problem}") from problem
    except (exceptions.LengthOrHashMismatchError, exceptions.DownloadLengthMismatchError) as problem:
        raise ContentMismatch(where, expected="the signed length and hashes", actual=str(problem)) from problem
    except exceptions.RepositoryError as problem:
        raise Untrusted(f"{where}: {problem}") from problem
    except exceptions.DownloadError as problem:
        raise SourceUnavailable(f"{where}: {problem}") from problem


def _reason(problem: BaseException) -> str:
    # tuf says "Failed to deserialize JSON" and keeps what was wrong in the cause.
    return str(problem.__cause__ or problem)
