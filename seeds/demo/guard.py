# SPDX-License-Identifier: Apache-2.0
"""Ends the demo's processes when the demo itself is killed: `python -m seeds.demo.guard`, pids on standard input.

Nothing can run after a `kill -9` but another process. This one reads pids, a line each, until its input ends, which
happens however the demo goes; whatever still lives then is ended. After an orderly end there is nothing left to do.
"""

import sys
from collections.abc import Callable
from contextlib import suppress

import psutil

END_SECONDS = 5.0


def main() -> None:
    """Remember processes while the demo lives, end them when it does not."""
    processes = []
    for line in sys.stdin:
        try:
            processes.append(psutil.Process(int(line)))  # remembers when it was started, so a reused pid is not hit
        except (psutil.NoSuchProcess, ValueError):
            continue
    for process in processes:
        _tell(process.terminate)
    _, alive = psutil.wait_procs(processes, timeout=END_SECONDS)
    for process in alive:
        _tell(process.kill)


def _tell(order: Callable[[], None]) -> None:
    with suppress(psutil.NoSuchProcess):
        order()


if __name__ == "__main__":
    main()
