# SPDX-License-Identifier: Apache-2.0
"""Named bounds of every field that a signed document may carry, checked in the documents' constructors."""

import re
from collections.abc import Sized

MAX_NAME_CHARS = 63  # a DNS label, since segments become names in certificates
MAX_VERSION_CHARS = 64
MAX_TEXT_CHARS = 2_000
MAX_COUNTER = 2**53 - 1  # the largest integer that JSON readers of reports keep exact
MAX_PAYLOAD_BYTES = 64 * 2**30
MAX_SECONDS = 366 * 86_400
MAX_RATE = 2**40  # bytes per second: no link is faster
MAX_ROUND_TRIP = 600.0  # seconds: nothing that still works is slower

_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?")
_PRODUCT = re.compile(r"[a-z0-9][a-z0-9._+-]*")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~:-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def check_name(field: str, value: str) -> None:
    """Names of devices, sites, segments and rings: DNS-label characters and dots. Raises ValueError."""
    if len(value) > MAX_NAME_CHARS or not _NAME.fullmatch(value) or ".." in value:
        raise ValueError(f"{field} {value!r} must be 1-{MAX_NAME_CHARS} of a-z 0-9 . _ -, not ending in punctuation")


def check_product(field: str, value: str) -> None:
    """Product names: those of Debian and PyPI, lower case. Raises ValueError."""
    if len(value) > MAX_NAME_CHARS or not _PRODUCT.fullmatch(value) or ".." in value:
        raise ValueError(f"{field} {value!r} must be 1-{MAX_NAME_CHARS} of a-z 0-9 . _ + -, starting with a-z or 0-9")


def check_version(field: str, value: str) -> None:
    """Version strings, never compared: order comes from release counters. Raises ValueError."""
    if len(value) > MAX_VERSION_CHARS or not _VERSION.fullmatch(value) or ".." in value:
        raise ValueError(f"{field} {value!r} must be 1-{MAX_VERSION_CHARS} of A-Z a-z 0-9 . _ + ~ : -")


def check_sha256(field: str, value: str) -> None:
    """Lower-case hexadecimal SHA-256. Raises ValueError."""
    if not _SHA256.fullmatch(value):
        raise ValueError(f"{field} {value!r} must be 64 lower-case hexadecimal digits")


def check_range(field: str, value: float, least: float, most: float) -> None:
    """Numbers within bounds, inclusive. Raises ValueError."""
    if not least <= value <= most:
        raise ValueError(f"{field} {value} must be between {least} and {most}")


def check_count(field: str, value: Sized, most: int, *, least: int = 0) -> None:
    """Lengths of lists and texts. Raises ValueError."""
    if not least <= len(value) <= most:
        raise ValueError(f"{field} has {len(value)} items, must have between {least} and {most}")


def check_unique(field: str, values: tuple[object, ...]) -> None:
    """No value twice. Raises ValueError."""
    if len(set(values)) != len(values):
        raise ValueError(f"{field} names something twice")
