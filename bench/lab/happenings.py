# SPDX-License-Identifier: Apache-2.0
"""What is to happen to a fleet in the middle of a transfer, one line each.

kill HOST | kill busiest | kill coordinator | start coordinator | join HOST | and whatever changes a link:
cut LINK | restore LINK | change LINK [up=RATE] [down=RATE] [delay=TIME] [loss=FRACTION]
"""

from collections.abc import Iterable
from dataclasses import dataclass

import trio

from bench.lab import changes
from bench.lab.fleet import LabFleet
from bench.lab.network import Network
from signing.errors import BadInput

USAGE = "kill HOST|busiest|coordinator, start coordinator, join HOST, cut LINK, restore LINK, change LINK …"


@dataclass(frozen=True, kw_only=True)
class Happening:
    """A line, and when: in seconds after the publication."""

    seconds: float
    line: str

    @property
    def joins(self) -> str | None:
        """The host that stays away until then, if it is about one."""
        words = self.line.split()
        return words[1] if len(words) == 2 and words[0] == "join" else None


def check_happenings(happenings: Iterable[Happening], network: Network) -> None:
    """Raise BadInput for a line that says nothing, or that is about a host or a link that there is not."""
    hosts = tuple(host.name for site in network.sites for host in site.hosts)
    links = tuple(network.links)
    known = {
        "kill": ("busiest", "coordinator", *hosts),
        "start": ("coordinator",),
        "join": hosts,
        "cut": links,
        "restore": links,
        "change": links,
    }
    for happening in happenings:
        where, (verb, *words) = f"--at {happening.seconds:g}", happening.line.split() or [""]
        if verb not in known:
            raise BadInput(where, f"{happening.line!r} is nothing that can happen", USAGE)
        if not words or words[0] not in known[verb] or (verb != "change" and len(words) > 1):
            raise BadInput(where, f"{happening.line!r} needs the name of one", f"there are: {', '.join(known[verb])}")


async def happen(happening: Happening, fleet: LabFleet) -> str:
    """Make it happen now; what to tell of it."""
    match happening.line.split():
        case ["kill", "coordinator"]:
            await fleet.kill_coordinator()
            return "the coordinator is dead"
        case ["start", "coordinator"]:
            await fleet.start_coordinator()
            return "the coordinator runs again"
        case ["kill", name]:
            endpoint = await fleet.busiest_ambassador() if name == "busiest" else fleet.endpoint(name)
            await endpoint.kill()
            return f"{endpoint.name} is dead"
        case ["join", name]:
            await fleet.join(name)
            return f"{name} joins"
        case _:
            return await trio.to_thread.run_sync(changes.obey, happening.line, fleet.network)


async def happen_in_time(happenings: Iterable[Happening], fleet: LabFleet, told: list[str]) -> None:
    """Make all of them happen, counted from now; `told` gets a line for each as it does."""
    began = trio.current_time()
    for happening in sorted(happenings, key=lambda happening: happening.seconds):
        await trio.sleep_until(began + happening.seconds)
        told.append(f"{trio.current_time() - began:.1f} s: {await happen(happening, fleet)}")
