# SPDX-License-Identifier: Apache-2.0
"""How our commands end: 0 done, 1 failed, 2 for whatever the person at the keyboard can mend."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import click

from signing.errors import SigningError

BAD_INPUT = 2

E = TypeVar("E", bound=BaseException)


@contextmanager
def bad_input_exits(program: str) -> Iterator[None]:
    """Turn a SigningError, also one out of a nursery, into one line on stderr and exit code 2; never a traceback."""
    try:
        yield
    except* SigningError as problems:
        click.echo(f"{program}: {first_of_group(problems)}", err=True)
        sys.exit(BAD_INPUT)


def first_of_group(group: BaseExceptionGroup[E]) -> E:
    """The first error of a group that nurseries may have nested."""
    error = group.exceptions[0]
    return first_of_group(error) if isinstance(error, BaseExceptionGroup) else error
