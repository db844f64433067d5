# SPDX-License-Identifier: Apache-2.0
"""The newest version of the signed timestamp, and those who wait for a newer one."""

import trio

from p2pd.host.latest import Latest


class Changes:
    """Set by whoever publishes metadata; watched by the long poll."""

    def __init__(self, version: int) -> None:
        self._latest = Latest((version, True))  # the version, and whether waiting for a newer one makes sense

    @property
    def version(self) -> int:
        """The newest version that is being served."""
        return self._latest.value[0]

    def announce(self, version: int) -> None:
        """Say that `version` is being served now. An older one than before changes nothing."""
        known, is_open = self._latest.value
        self._latest.set((max(version, known), is_open))

    async def newer_than(self, version: int) -> int:
        """Return the newest version as soon as it exceeds `version`, or there will be no news from here."""
        watch = self._latest.watch()
        while True:
            newest, is_open = self._latest.value
            if newest > version or not is_open:
                return newest
            await watch.changed()

    async def close_when_cancelled(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Sleep until cancelled, then let nobody wait any longer: a shutdown need not sit out every long poll."""
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            self._latest.set((self.version, False))
