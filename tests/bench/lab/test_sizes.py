# SPDX-License-Identifier: Apache-2.0
"""Sizes on a command line."""

import click
import pytest

from bench.lab.sizes import Size


@pytest.mark.parametrize(
    ("text", "count"), [("64MB", 64_000_000), ("1.5GB", 1_500_000_000), ("500kB", 500_000), ("0.1MB", 100_000)]
)
def test_sizes(text: str, count: int) -> None:
    assert Size().convert(text, None, None) == count


@pytest.mark.parametrize("text", ["64", "64mb", "MB", "-1MB", "99kB", "1e3MB", ""])
def test_no_sizes(text: str) -> None:
    with pytest.raises(click.BadParameter, match="write 500kB, 64MB"):
        Size().convert(text, None, None)
