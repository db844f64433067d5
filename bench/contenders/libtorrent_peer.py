# SPDX-License-Identifier: Apache-2.0
"""A libtorrent client with the library's default settings; its arguments are TORRENT DIRECTORY READY FINISHED.

It touches READY and then waits for a line on its standard input before it adds the torrent, so that starting Python is
no part of a race. It touches FINISHED when it has all of it on the disk, and seeds until it is killed.
"""

import sys
from pathlib import Path

import libtorrent as lt

PORT = 6881
_LONGEST_WAIT_MS = 1_000


def main() -> None:
    """Take part in the swarm until killed. Raises RuntimeError for a torrent that cannot be read."""
    torrent, directory, ready, finished = map(Path, sys.argv[1:5])
    session = lt.session(
        {
            "listen_interfaces": f"0.0.0.0:{PORT}",
            "enable_dht": False,  # there is no way out of the lab
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "alert_mask": lt.alert.category_t.storage_notification | lt.alert.category_t.status_notification,
        }
    )
    ready.touch()
    sys.stdin.readline()
    parameters = lt.load_torrent_file(str(torrent))
    parameters.save_path = str(directory)
    handle = session.add_torrent(parameters)
    while True:
        session.wait_for_alert(_LONGEST_WAIT_MS)
        for alert in session.pop_alerts():
            if isinstance(alert, lt.torrent_finished_alert):
                handle.flush_cache()
            elif isinstance(alert, lt.cache_flushed_alert) and handle.status().is_seeding:
                finished.touch()


if __name__ == "__main__":
    main()
