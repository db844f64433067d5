# SPDX-License-Identifier: Apache-2.0
"""From a signal to the end of the process: ask once, wait a bounded time, then go."""

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable

import trio

from p2pd.host.telemetry import log

_log = log(__name__)


async def run_until_signalled(main: Callable[[], Awaitable[None]], *, drain_seconds: float) -> signal.Signals | None:
    """Run `main` until it returns, or until SIGTERM or SIGINT cancels it; tell which signal it was, if any.

    What `main` raises comes out as it is. A second signal, or `drain_seconds` passing after the first, ends the
    process on the spot, by the signal's own default action: all that matters is on disk before it is acted upon, so
    a stuck shutdown is worth no more waiting. Must run in the main thread.
    """
    received: list[signal.Signals] = []
    failure: Exception | None = None
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            main_scope = trio.CancelScope()
            nursery.start_soon(_watch, signals, main_scope, drain_seconds, received)
            try:
                with main_scope:
                    await main()
            except Exception as problem:
                failure = problem
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return received[0] if received else None


async def _watch(
    signals: AsyncIterator[int], main_scope: trio.CancelScope, drain_seconds: float, received: list[signal.Signals]
) -> None:
    first = signal.Signals(await anext(signals))
    received.append(first)
    _log.info("stopping", signal=first.name, drain_seconds=drain_seconds)
    main_scope.cancel()
    with trio.move_on_after(drain_seconds):
        second = signal.Signals(await anext(signals))
        _log.warning("stopping at once", signal=second.name)
        _die_by(second)
    _log.error("stopping at once: shutdown took too long", drain_seconds=drain_seconds)
    _die_by(first)


def _die_by(number: signal.Signals) -> None:
    # Dying by the signal itself, rather than by an exit code, tells shells and init systems the truth.
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
