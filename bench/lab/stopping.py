# SPDX-License-Identifier: Apache-2.0
"""Signals while a lab stands: SIGTERM ends it as Ctrl-C does, and neither disturbs its removal."""

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

_SIGNALS = {signal.SIGINT, signal.SIGTERM}


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Within, SIGTERM raises SystemExit: where nobody else handles it, and in the thread that can handle signals."""
    in_charge = threading.current_thread() is threading.main_thread()
    if not in_charge or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def undisturbed_removal() -> Iterator[ExitStack]:
    """A stack of what to take down at the end; Ctrl-C and SIGTERM wait meanwhile."""
    stack = ExitStack()
    try:
        yield stack
    finally:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            stack.close()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _leave(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)
