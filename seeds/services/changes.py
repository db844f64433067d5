# SPDX-License-Identifier: Apache-2.0
"""The newest version of the signed timestamp, and those who wait for a newer one."""

from p2pd.host.latest import Latest


class Changes:
    """Set by whoever publishes metadata; watched by the long poll."""

    def __init__(self, version: int) -> None:
        self._latest = Latest(version)

    @property
    def version(self) -> int:
        """The newest version that is being served."""
        return self._latest.value

    def announce(self, version: int) -> None:
        """Say that `version` is being served now. An older one than before changes nothing."""
        self._latest.set(max(version, self._latest.value))

    async def newer_than(self, version: int) -> int:
        """Return the newest version as soon as it exceeds `version`."""
        watch = self._latest.watch()
        while self._latest.value <= version:
            await watch.changed()
        return self._latest.value
