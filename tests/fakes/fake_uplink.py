# SPDX-License-Identifier: Apache-2.0
"""The way from endpoints to a server on the other side of the WAN: there, unless a test cuts it."""

from dataclasses import dataclass

from p2pd.host.latest import Latest


@dataclass(frozen=True)
class _Cut:
    everybody: bool = False
    clients: frozenset[str] = frozenset()


class FakeUplink:
    """Cut for everybody or for some. What is under way when it is cut breaks at once."""

    def __init__(self) -> None:
        self._cut = Latest(_Cut())

    def cut(self, *clients: str) -> None:
        """Nothing gets through for these clients any more; without names, for nobody."""
        before = self._cut.value
        self._cut.set(_Cut(everybody=before.everybody or not clients, clients=before.clients | set(clients)))

    def mend(self) -> None:
        """Everybody gets through again."""
        self._cut.set(_Cut())

    def reaches(self, client: str) -> bool:
        """Whether this client gets through now."""
        return not self._cut.value.everybody and client not in self._cut.value.clients

    async def lost(self, client: str) -> None:
        """Return once this client does not get through."""
        news = self._cut.watch()
        while self.reaches(client):
            await news.changed()
