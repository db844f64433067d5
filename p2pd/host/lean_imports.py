# SPDX-License-Identifier: Apache-2.0
"""Imports libraries without what they pick up only because it happens to be installed, and a daemon never uses.

structlog and httpx take rich and pygments where they find them, for coloured tracebacks and a command line: 4 MiB of
memory that every endpoint would pay for as long as it runs.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def unavailable(*names: str) -> Iterator[None]:
    """While the block lasts, importing one of `names` fails as if it were not installed; what is loaded stays loaded.

    For libraries that treat these as optional. Not for use while other threads import.
    """
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None is the import system's word for "refuse"
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
