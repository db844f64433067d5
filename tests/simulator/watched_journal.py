# SPDX-License-Identifier: Apache-2.0
"""The real journal, which remembers all that was ever durable, and at which a test can pull the plug."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

import trio

from p2pd.adapters.journal_files import JournalFiles
from p2pd.ports_control import ProductRecord
from signing.reasons import Reason
from signing.report import InstallState
from tests.simulator.virtual_time import in_place


class Moment(Enum):
    """When, around a state's way to the disk, the power goes."""

    BEFORE_IT_IS_DURABLE = auto()
    ONCE_IT_IS_DURABLE = auto()


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A state that was made durable, in any life of the daemon. `time` is virtual."""

    time: float
    product: str
    version: str
    state: InstallState
    reason: Reason | None


class WatchedJournal(JournalFiles):
    """`history` has every state that was made durable, over all lives of the daemon."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, in_place)
        self._records = directory
        self.history: list[Entry] = []
        self._plug: tuple[InstallState, Moment, Callable[[], None]] | None = None

    def states(self, version: str) -> list[InstallState]:
        """The states of a version, in order."""
        return [entry.state for entry in self.history if entry.version == version]

    def time_of(self, version: str, state: InstallState) -> float:
        """When the version came to `state` for the first time."""
        return next(entry.time for entry in self.history if (entry.version, entry.state) == (version, state))

    def pull_plug_at(self, state: InstallState, moment: Moment, pull: Callable[[], None]) -> None:
        """Call `pull`, once, when the next attempt comes to `state`."""
        self._plug = (state, moment, pull)

    def damage(self) -> None:
        """What a disk may do to every record."""
        for path in self._records.glob("*.record"):
            path.write_bytes(b"damaged")

    async def save(self, product: str, record: ProductRecord) -> None:
        """See `Journal`."""
        attempt = record.attempt
        assert attempt is not None, "the daemon keeps records of attempts only"
        if record.is_told:  # the state itself is durable already
            await super().save(product, record)
            return
        await self._maybe_pull(attempt.state, Moment.BEFORE_IT_IS_DURABLE)
        await super().save(product, record)
        entry = Entry(
            time=trio.current_time(),
            product=product,
            version=attempt.version,
            state=attempt.state,
            reason=attempt.reason,
        )
        self.history.append(entry)
        await self._maybe_pull(attempt.state, Moment.ONCE_IT_IS_DURABLE)

    async def _maybe_pull(self, state: InstallState, moment: Moment) -> None:
        if self._plug is not None and self._plug[:2] == (state, moment):
            pull, self._plug = self._plug[2], None
            pull()
            await trio.lowlevel.checkpoint()  # where the daemon ends: nothing of it happens after this
