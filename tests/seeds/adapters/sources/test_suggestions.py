# SPDX-License-Identifier: Apache-2.0
"""What sources say of themselves goes to terminals: one line, printable, bounded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seeds.adapters.sources.suggestions import printable
from signing.bounds import MAX_TEXT_CHARS


@pytest.mark.parametrize(
    ("text", "shown"),
    [(None, None), ("", None), (" \n\t", None), ("\x1b\x07", None), (" a\n  b\x1b[0m", "a b[0m"), ("été", "été")],
)
def test_examples(text: str | None, shown: str | None) -> None:
    assert printable(text) == shown


@given(st.text(max_size=50).map(lambda text: text * 100))
def test_always_one_bounded_printable_line(text: str) -> None:
    shown = printable(text) or "x"
    assert shown.isprintable()
    assert len(shown) <= MAX_TEXT_CHARS
