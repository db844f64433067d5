# SPDX-License-Identifier: Apache-2.0
"""A process of its own that fetches a payload from a peer, until it is killed. Arguments: directory, port of the peer.

The directory holds `torrent`, `info_hash`, `certificate.pem`, `key.pem`; the payload goes into its `payload`. Each line
on stdout is the number of pieces had.
"""

import sys
from pathlib import Path

import trio

from p2pd.adapters.torrent_session import open_torrent_session
from p2pd.adapters.torrent_settings import SwarmLimits
from p2pd.ports import Endpoint, TorrentSpec

BYTES_PER_S = 8 * 2**20  # slow enough to be killed on the way


async def main(directory: Path, port: int) -> None:
    spec = TorrentSpec(
        torrent=(directory / "torrent").read_bytes(),
        info_hash=(directory / "info_hash").read_text(),
        directory=directory / "payload",
        name="office",
    )
    async with (
        open_torrent_session(
            interfaces=[Endpoint(host="127.0.0.1", port=0)],
            certificate_pem=(directory / "certificate.pem").read_bytes(),
            key_pem=(directory / "key.pem").read_bytes(),
            device="child",
            limits=SwarmLimits(download_bytes_per_s=BYTES_PER_S),
        ) as swarm,
        swarm.transfer(spec) as transfer,
    ):
        transfer.connect(Endpoint(host="127.0.0.1", port=port))
        while True:
            await transfer.changed()
            print(len(transfer.progress().have), flush=True)  # noqa: T201 (its parent listens)


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), int(sys.argv[2]))
