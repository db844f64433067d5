# SPDX-License-Identifier: Apache-2.0
"""`p2pd.ports_delta.Rebuilder` without a process: the same work, in the task that asks for it."""

import trio

from p2pd.adapters.rebuilding import rebuild
from p2pd.ports_control import StorageFailed
from p2pd.ports_delta import Rebuild


class InPlaceRebuilder:
    """Applies deltas in place, for virtual clocks; `done` are those that succeeded."""

    def __init__(self) -> None:
        self.done: list[Rebuild] = []

    async def rebuild(self, work: Rebuild) -> None:
        """See `Rebuilder`."""
        await trio.lowlevel.checkpoint()
        try:
            rebuild(work)
        except OSError as problem:
            raise StorageFailed(problem) from problem
        self.done.append(work)
