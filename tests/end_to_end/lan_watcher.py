# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.end_to_end.lan_watcher ADDRESS PORT TAG`: announce on a LAN, and tell what is seen there.

One JSON object a line on stdout, `{"instance", "host", "port", "tags"}` for a sighting and `{"departed"}` for a
departure, until SIGTERM.
"""

import json
import signal
import sys

import trio

from p2pd.adapters.lan_mdns import MdnsLan, open_lan
from p2pd.ports import Announcement, Departure


async def watch(address: str, port: int, tag: bytes) -> None:
    async with open_lan([address]) as lan, trio.open_nursery() as nursery:
        await lan.announce(Announcement(torrent_port=port, mirror_port=0, tags=frozenset({tag})))
        nursery.start_soon(_tell, lan)
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            async for _ in signals:
                nursery.cancel_scope.cancel()


async def _tell(lan: MdnsLan) -> None:
    async for item in lan.sightings:
        line: dict[str, object]
        if isinstance(item, Departure):
            line = {"departed": item.instance}
        else:
            line = {
                "instance": item.instance,
                "host": item.endpoint.host,
                "port": item.endpoint.port,
                "tags": sorted(tag.hex() for tag in item.tags),
            }
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    trio.run(watch, sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3]))
