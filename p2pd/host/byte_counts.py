# SPDX-License-Identifier: Apache-2.0
"""Byte counts as people read them."""

_UNITS = ("B", "kB", "MB", "GB", "TB")
_STEP = 1_000


def in_bytes(count: int) -> str:
    """A byte count for people, in decimal units as links and disks are sold."""
    value, unit = float(count), 0
    while value >= _STEP and unit < len(_UNITS) - 1:
        value, unit = value / _STEP, unit + 1
    return f"{count} B" if unit == 0 else f"{value:.1f} {_UNITS[unit]}"
