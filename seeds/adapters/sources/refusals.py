# SPDX-License-Identifier: Apache-2.0
"""How the payload builder says no: BadInput that names the source, its member and a remedy, or DiskFull."""

from collections.abc import Iterator
from contextlib import contextmanager

from signing.errors import BadInput
from signing.reasons import Reason


class DiskFull(BadInput):
    """There is no room for the payload; nothing was kept."""

    reason = Reason.DISK_FULL


def of_member(source: str, member: str | bytes) -> str:
    """The `where` of an error about one member, printable whatever bytes its name has."""
    text = member if isinstance(member, str) else member.decode("utf-8", errors="backslashreplace")
    shown = text if len(text) <= 200 else f"{text[:150]}…{text[-40:]}"
    return f"{source}: {shown!r}"


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Turn the operating system's errors of the block, which reads `where`, into BadInput."""
    try:
        yield
    except OSError as problem:
        raise BadInput(where, f"cannot be read ({problem.strerror or problem})") from problem


def changed(where: str) -> BadInput:
    """The error about a source that somebody writes to while it is read."""
    return BadInput(where, "changed while it was read", "build again when nothing writes to it")
