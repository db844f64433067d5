# SPDX-License-Identifier: Apache-2.0
"""What contenders that are BitTorrent swarms share: a torrent of the payload, opentracker, a seed on the origin.

All swarms get the same torrent: version 1, which all of them speak, pieces of 256 KiB, one tracker beside the seed.
"""

import shutil
from abc import abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import libtorrent as lt
import trio

from bench.contenders.contender import Stage
from bench.contenders.daemons import DaemonsEntry
from bench.lab.network import Host
from bench.lab.processes import LabProcess
from bench.lab.programs import found

TRACKER_PORT = 6969
PIECE_BYTES = 262_144
SEED_SECONDS = 3.0  # for the seed to check its file and to announce itself


class SwarmEntry(DaemonsEntry):
    """A tracker and a seed run beforehand; the signal starts the endpoints' clients."""

    async def serve(self) -> None:
        """Make the torrent, start tracker and seed, and give them a moment."""
        origin, directory = self.stage.network.origin, self.stage.directory
        announce = f"http://{origin.address}:{TRACKER_PORT}/announce"
        made = await trio.to_thread.run_sync(make_torrent, self.stage.payload, announce)
        self.torrent.write_bytes(made)
        self.origin_processes.append(await start_tracker(self.stage))
        seed = directory / "seed"
        seed.mkdir()
        shutil.copyfile(self.stage.payload, seed / self.stage.payload.name)  # a client may write beside what it seeds
        self.origin_processes.append(await self.launch_client(origin, seed, is_seed=True))
        await trio.sleep(SEED_SECONDS)

    @property
    def torrent(self) -> Path:
        """The torrent file."""
        return self.stage.directory / "payload.torrent"

    async def launch(self, host: Host) -> LabProcess:
        """A client that has nothing."""
        return await self.launch_client(host, self.directories[host.name], is_seed=False)

    @abstractmethod
    async def launch_client(self, host: Host, directory: Path, *, is_seed: bool) -> LabProcess:
        """Start a client on a host. It keeps its data in `directory` and leaves its mark there; a seed has all."""


@asynccontextmanager
async def serving(entry: SwarmEntry) -> AsyncIterator[SwarmEntry]:
    """A swarm with its tracker and its seed."""
    await entry.serve()
    yield entry


async def start_tracker(stage: Stage) -> LabProcess:
    """opentracker, as Debian builds it: it serves torrents on a list only."""
    directory = stage.directory / "tracker"
    directory.mkdir()
    info_hash = lt.load_torrent_file(str(stage.directory / "payload.torrent")).info_hashes.v1
    (directory / "whitelist").write_text(f"{info_hash}\n")
    (directory / "config").write_text(
        f"listen.tcp {stage.network.origin.address}:{TRACKER_PORT}\n"
        f"tracker.rootdir {directory}\n"
        "tracker.user nobody\n"  # it refuses to run as root
        "access.whitelist /whitelist\n"  # as seen from within rootdir
    )
    argv = [found("opentracker"), "-f", str(directory / "config")]
    return await stage.processes.start(stage.network.origin.argv(argv), log=directory / "log", name="opentracker")


def make_torrent(payload: Path, announce: str) -> bytes:
    """A version 1 torrent of one file; seconds of work for a hundred megabytes."""
    maker = lt.create_torrent(
        [lt.create_file_entry(payload.name, payload.stat().st_size)], PIECE_BYTES, lt.create_torrent.v1_only
    )
    maker.add_tracker(announce)
    lt.set_piece_hashes(maker, str(payload.parent))
    return bytes(lt.bencode(maker.generate()))
