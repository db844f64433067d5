# SPDX-License-Identifier: Apache-2.0
"""Who has to go when one link announces more than there can be: the one with the most names, not the latest comer.

A host announces one instance, and two while its name changes. A flood comes from many names at one address, or, from
somebody who makes up addresses too, from many addresses; zeroconf does not tell who really sent a packet. So an address
may have a few names, and of too many instances the most crowded address loses first. Among equals it is the one that
was not heard of for longest: to push out a living host, a flood must bring a whole table of addresses between two
words of that host, which every question on the link makes it say again.

Every step takes the same time, however many there are.
"""


class Crowd:
    """Instances by the address that each announces, the longest unheard of first."""

    def __init__(self, *, most: int, most_per_address: int) -> None:
        self._most = most
        self._most_per_address = most_per_address
        self._address: dict[str, str] = {}
        self._instances: dict[str, dict[str, None]] = {}
        self._by_size: list[dict[str, None]] = [{} for _ in range(most_per_address + 2)]  # addresses; 0 stays empty

    def __len__(self) -> int:
        return len(self._address)

    def settle(self, instance: str, address: str) -> list[str]:
        """Note that `instance`, new or known, was heard of at `address`; the instances that have to go for it."""
        self.leave(instance)
        self._address[instance] = address
        here = self._instances.setdefault(address, {})
        self._by_size[len(here)].pop(address, None)
        here[instance] = None
        self._by_size[len(here)][address] = None
        if len(here) > self._most_per_address:
            return [self._evict(address)]
        if len(self._address) > self._most:
            return [self._evict(next(address for crowd in reversed(self._by_size) for address in crowd))]
        return []

    def leave(self, instance: str) -> None:
        """Forget `instance`; nothing happens when it is not there."""
        address = self._address.pop(instance, None)
        if address is None:
            return
        here = self._instances[address]
        del self._by_size[len(here)][address]
        del here[instance]
        if here:
            self._by_size[len(here)][address] = None
        else:
            del self._instances[address]

    def _evict(self, address: str) -> str:
        longest_unheard = next(iter(self._instances[address]))
        self.leave(longest_unheard)
        return longest_unheard
