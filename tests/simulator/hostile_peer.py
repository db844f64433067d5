# SPDX-License-Identifier: Apache-2.0
"""A device of the segment that has been taken over: it still has its certificate, and plays by no rules."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from p2pd.decisions.discovery_tags import epoch_of, tags_to_announce
from p2pd.ports import Announcement, Endpoint, TorrentSpec
from tests.simulator.administrator import Release
from tests.simulator.endpoint import TORRENT_PORT, SimulatedEndpoint
from tests.simulator.world import World


@asynccontextmanager
async def mute_peer(world: World, taken_over: SimulatedEndpoint, release: Release) -> AsyncIterator[None]:
    """In place of an endpoint that was killed: announces and offers the whole release, and never sends a byte."""
    node = world.swarm.join(Endpoint(host=taken_over.host, port=TORRENT_PORT), taken_over.device)
    node.is_mute = True
    directory = world.directory / "hostile"
    directory.mkdir()
    (directory / release.segment).write_bytes(world.payload_of(release))
    spec = TorrentSpec(
        torrent=world.torrent_of(release), info_hash=release.info_hash, directory=directory, name=release.segment
    )
    tags = tags_to_announce(
        hashlib.sha256(world.segment_ca_pem).digest(),
        taken_over.device,
        epoch_of(world.wall_clock.unix()),
        timestamp_version=world.coordinator.changes.version,
        info_hashes=[release.info_hash],
    )
    async with node.transfer(spec), world.lan.open_lan(taken_over.host) as lan:
        await lan.announce(Announcement(torrent_port=TORRENT_PORT, mirror_port=0, tags=tags))
        yield
