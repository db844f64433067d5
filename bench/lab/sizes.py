# SPDX-License-Identifier: Apache-2.0
"""Sizes of payloads as people write them on a command line."""

import re

import click

LEAST_BYTES = 100_000
_SIZE = re.compile(r"(\d+(?:\.\d+)?)(kB|MB|GB)")
_UNITS = {"kB": 1_000, "MB": 1_000_000, "GB": 1_000_000_000}


class Size(click.ParamType[int]):
    """Bytes: `64MB` is 64,000,000."""

    name = "size"

    def convert(self, value: object, _param: click.Parameter | None, _context: click.Context | None) -> int:
        """What click calls with the text of an option."""
        match = _SIZE.fullmatch(str(value))
        if match is None or (count := round(float(match[1]) * _UNITS[match[2]])) < LEAST_BYTES:
            self.fail(f"{value!r} is no size: write 500kB, 64MB, 1.5GB; at least 100kB")
        return count
