# SPDX-License-Identifier: Apache-2.0
"""How p2pd-install says no: with a reason code and a sentence that names what to look at."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from signing.errors import BadInput
from signing.reasons import Reason

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class InstallRefused(Exception):
    """The request was not carried out, and what was active before is active still."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class UnsafePayload(BadInput):
    """A payload holds something that no payload may hold; `where` names the member."""

    reason = Reason.INSTALL_FAILED


@contextmanager
def refusing(doing: str) -> Iterator[None]:
    """Turn the operating system's errors of the block into refusals: they say nothing of any release, and may pass."""
    try:
        yield
    except OSError as problem:
        if problem.errno in _NO_SPACE:
            raise InstallRefused(Reason.DISK_FULL, f"{doing}: no space left on the device") from problem
        raise InstallRefused(Reason.STORAGE_FAILED, f"{doing}: {problem}") from problem
