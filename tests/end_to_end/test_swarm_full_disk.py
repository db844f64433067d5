# SPDX-License-Identifier: Apache-2.0
"""A disk that somebody else fills after the transfer began: a small file system of our own, so only as root."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from p2pd.adapters.torrent_session import open_torrent_session
from p2pd.ports import Endpoint, PayloadStoreFull
from tests.fakes.segment import PIECE_BYTES, create_authority, enrol, is_complete, make_payload

DISK_BYTES = 2 * 2**20

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system"),
]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["/usr/bin/mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(disk)]
    refusal = subprocess.run(mount, capture_output=True, check=False, text=True)
    if refusal.returncode != 0:
        pytest.skip(f"this root may not mount: {refusal.stderr.strip()}")
    yield disk
    subprocess.run(["/usr/bin/umount", str(disk)], check=True)


async def test_a_disk_that_fills_up_ends_the_transfer_and_not_the_session(small_disk: Path, tmp_path: Path) -> None:
    authority = create_authority()
    payload = make_payload(tmp_path, authority, pieces=DISK_BYTES * 3 // 4 // PIECE_BYTES)
    badge = enrol(authority, "pc-1")
    spec = payload.spec(small_disk / "pc-1")
    filler = small_disk / "filler"
    async with open_torrent_session(
        interfaces=[Endpoint(host="127.0.0.1", port=0)],
        certificate_pem=badge.certificate_pem,
        key_pem=badge.key_pem,
        device="pc-1",
    ) as swarm:

        async def fill() -> None:
            async with swarm.transfer(spec) as transfer:
                filler.write_bytes(bytes(DISK_BYTES // 2))
                for index in range(payload.piece_count):
                    await transfer.add_piece(index, payload.piece(index))
                while not is_complete(transfer.progress()):
                    await transfer.changed()

        with trio.fail_after(20):
            with pytest.raises(PayloadStoreFull):
                await fill()
            filler.unlink()
            async with swarm.transfer(spec) as transfer:
                for index in range(payload.piece_count):
                    assert await transfer.add_piece(index, payload.piece(index))
                while not is_complete(transfer.progress()):
                    await transfer.changed()
    assert (small_disk / "pc-1" / "office").read_bytes() == payload.data
