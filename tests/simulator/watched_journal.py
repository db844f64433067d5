# SPDX-License-Identifier: Apache-2.0
"""The real journal, which remembers all that was ever durable, and at which a test can pull the plug."""

from collections.abc import Callable
from enum import Enum, auto
from pathlib import Path

import trio

from p2pd.adapters.journal_files import JournalFiles
from p2pd.ports_control import ProductRecord
from signing.report import InstallState
from tests.simulator.virtual_time import in_place


class Moment(Enum):
    """When, around a state's way to the disk, the power goes."""

    BEFORE_IT_IS_DURABLE = auto()
    ONCE_IT_IS_DURABLE = auto()


class WatchedJournal(JournalFiles):
    """`states` lists every state that was made durable, over all lives of the agent, by product."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, in_place)
        self.states: dict[str, list[InstallState]] = {}
        self._plug: tuple[InstallState, Moment, Callable[[], None]] | None = None

    def pull_plug_at(self, state: InstallState, moment: Moment, pull: Callable[[], None]) -> None:
        """Call `pull`, once, when the next attempt comes to `state`."""
        self._plug = (state, moment, pull)

    async def save(self, product: str, record: ProductRecord) -> None:
        """See `Journal`."""
        state = record.attempt.state if record.attempt is not None else None
        await self._maybe_pull(state, Moment.BEFORE_IT_IS_DURABLE)
        await super().save(product, record)
        if state is not None:
            self.states.setdefault(product, []).append(state)
        await self._maybe_pull(state, Moment.ONCE_IT_IS_DURABLE)

    async def _maybe_pull(self, state: InstallState | None, moment: Moment) -> None:
        if self._plug is not None and self._plug[:2] == (state, moment):
            pull, self._plug = self._plug[2], None
            pull()
            await trio.lowlevel.checkpoint()  # nothing after this line happens any more
