# SPDX-License-Identifier: Apache-2.0
"""kill -9 in mid-transfer: what was written counts, what was in memory is fetched again."""

import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import trio

from p2pd.adapters.torrent_session import open_torrent_session
from p2pd.adapters.torrent_settings import DISK_QUEUE_BYTES
from p2pd.ports import Endpoint
from tests.fakes.segment import PIECE_BYTES, create_authority, enrol, is_complete, make_payload

HOST = "127.0.0.1"
WAIT_SECONDS = 30.0
PIECES = 768  # 12 MiB
KILL_AT = 512  # 8 MiB


async def test_a_killed_transfer_goes_on_where_it_was(tmp_path: Path) -> None:
    authority = create_authority()
    payload = make_payload(tmp_path, authority, pieces=PIECES)
    child = tmp_path / "child"
    child.mkdir()
    badge = enrol(authority, "child")
    (child / "torrent").write_bytes(payload.torrent)
    (child / "info_hash").write_text(payload.info_hash)
    (child / "certificate.pem").write_bytes(badge.certificate_pem)
    (child / "key.pem").write_bytes(badge.key_pem)
    badge = enrol(authority, "pc-1")
    async with (
        open_torrent_session(
            interfaces=[Endpoint(host=HOST, port=0)],
            certificate_pem=badge.certificate_pem,
            key_pem=badge.key_pem,
            device="pc-1",
        ) as swarm,
        swarm.transfer(payload.put(tmp_path / "pc-1")),
    ):
        had = await leech_and_kill(child, swarm.port)
        async with (
            open_torrent_session(
                interfaces=[Endpoint(host=HOST, port=0)],
                certificate_pem=(child / "certificate.pem").read_bytes(),
                key_pem=(child / "key.pem").read_bytes(),
                device="child",
            ) as again,
            again.transfer(payload.spec(child / "payload")) as transfer,
        ):
            kept = len(transfer.progress().have)
            assert had - DISK_QUEUE_BYTES // PIECE_BYTES <= kept < PIECES
            transfer.connect(Endpoint(host=HOST, port=swarm.port))
            with trio.fail_after(WAIT_SECONDS):
                while not is_complete(transfer.progress()):
                    await transfer.changed()
            assert transfer.progress().bytes_lan <= (PIECES - kept) * PIECE_BYTES
    assert (child / "payload" / "office").read_bytes() == payload.data


async def leech_and_kill(child: Path, port: int) -> int:
    """Run the child until it has KILL_AT pieces; how many it had when it was killed."""
    command = [sys.executable, "-m", "tests.end_to_end.leeching_child", str(child), str(port)]
    had = 0
    async with trio.open_nursery() as nursery:
        run = partial(trio.run_process, stdout=subprocess.PIPE, check=False, cwd=Path(__file__).parents[2])
        process = await nursery.start(run, command)
        with trio.fail_after(WAIT_SECONDS):
            buffer = b""
            while had < KILL_AT:
                buffer += await process.stdout.receive_some()
                *lines, buffer = buffer.split(b"\n")
                had = max([had, *map(int, lines)])
        process.send_signal(signal.SIGKILL)
    return had
