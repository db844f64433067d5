# SPDX-License-Identifier: Apache-2.0
"""Others at rest, each with one complete torrent of its own and nobody to serve: libtorrent, aria2, transmission.

`python -m bench.idle_seeders TORRENT DIRECTORY` is the plain libtorrent session: defaults, but no search for peers.
"""

import shutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import libtorrent as lt

PIECE_BYTES = 2**18


def make_plain_torrent(payload: Path) -> bytes:
    """A BitTorrent v1 torrent of one file, which all of them understand."""
    files = [lt.create_file_entry(payload.name, payload.stat().st_size)]
    creator = lt.create_torrent(files, PIECE_BYTES, lt.create_torrent.v1_only)
    lt.set_piece_hashes(creator, str(payload.parent))
    return lt.bencode(creator.generate())


def seeder_commands(directory: Path, torrent: Path, *, host: str) -> Mapping[str, list[str]]:
    """How to start each of them in the foreground; what is not installed is left out.

    `directory` holds the payload. Every one listens at `host`, a loopback address of its own.
    """
    commands = {"libtorrent": [sys.executable, "-m", "bench.idle_seeders", str(torrent), str(directory), host]}
    if aria2 := shutil.which("aria2c"):
        commands["aria2"] = [
            *(aria2, "--quiet", "--enable-rpc", "--rpc-listen-port=6801", "--no-conf", f"--dir={directory}"),
            *(f"--interface={host}", "--listen-port=6802", "--enable-dht=false", "--enable-dht6=false"),
            *("--bt-enable-lpd=false", "--enable-peer-exchange=false", "--check-integrity=true", "--seed-ratio=0.0"),
            str(torrent),
        ]
    if transmission := shutil.which("transmission-daemon"):
        watched, settings = directory / "watched", directory / "transmission"
        watched.mkdir()
        shutil.copy(torrent, watched)
        commands["transmission"] = [
            *(transmission, "--foreground", "--config-dir", str(settings), "--download-dir", str(directory)),
            *("--watch-dir", str(watched), "--no-portmap", "--no-dht", "--no-lpd", "--no-utp", "--no-incomplete-dir"),
            *("--bind-address-ipv4", host, "--rpc-bind-address", host, "--peerport", "6803", "--port", "6804"),
        ]
    return commands


def seed(torrent: Path, directory: Path, host: str) -> None:
    """Seed with a plain session until SIGTERM."""
    settings: lt.settings_pack = {
        "listen_interfaces": f"{host}:6805",
        "enable_dht": False,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
    }
    session = lt.session(settings)
    params = lt.load_torrent_file(str(torrent))
    params.save_path = str(directory)
    session.add_torrent(params)
    signal.pause()


if __name__ == "__main__":
    seed(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
