# SPDX-License-Identifier: Apache-2.0
"""How our commands end: 0 done, 1 failed, 2 for whatever the person at the keyboard can mend."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from p2pd.host.exception_groups import first_of_group
from signing.errors import SigningError

BAD_INPUT = 2


@contextmanager
def bad_input_exits(program: str) -> Iterator[None]:
    """Turn a SigningError, also one out of a nursery, into one line on stderr and exit code 2; never a traceback."""
    try:
        yield
    except* SigningError as problems:
        click.echo(f"{program}: {first_of_group(problems)}", err=True)
        sys.exit(BAD_INPUT)
