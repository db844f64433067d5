# SPDX-License-Identifier: Apache-2.0
"""What a source says about itself, for the administrator to take over or overrule; never trusted."""

from dataclasses import dataclass

from signing.bounds import MAX_TEXT_CHARS


@dataclass(frozen=True, kw_only=True)
class Suggested:
    """Facts as the source states them (printable, bounded, otherwise unchecked), and what a payload leaves out."""

    product: str | None = None
    version: str | None = None
    architecture: str | None = None
    depends: str | None = None
    summary: str | None = None
    ignored: tuple[str, ...] = ()  # sentences for people


def printable(text: str | None) -> str | None:
    """One line of at most MAX_TEXT_CHARS printable characters, or None for nothing: it is going to a terminal."""
    line = " ".join((text or "")[: 4 * MAX_TEXT_CHARS].split())
    return "".join(character for character in line if character.isprintable())[:MAX_TEXT_CHARS] or None
