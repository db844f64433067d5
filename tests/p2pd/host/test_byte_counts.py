# SPDX-License-Identifier: Apache-2.0
"""Byte counts are short and never off by more than their last digit."""

import pytest

from p2pd.host.byte_counts import in_bytes


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_000, "1.0 kB"),
        (2_540_000, "2.5 MB"),
        (4 * 10**9, "4.0 GB"),
        (5 * 10**15, "5000.0 TB"),
    ],
)
def test_a_count_has_the_unit_that_keeps_it_short(count: int, text: str) -> None:
    assert in_bytes(count) == text
