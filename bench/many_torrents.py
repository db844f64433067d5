# SPDX-License-Identifier: Apache-2.0
"""A libtorrent client with many torrents: `python -m bench.many_torrents TORRENTS SAVE ADDRESS PEER[,PEER…]`.

Default settings but for the number of active torrents, which would otherwise stay at a few. It prints a line when all
torrents are added (a seed has checked its files then), begins to connect at a line on its standard input, prints
another line when it has everything on disk, and seeds until it is killed; every further line is answered with the
payload bytes that it has sent.
"""

import sys
from pathlib import Path

import libtorrent as lt

PORT = 6881
MANY = 1_000_000
_LONGEST_WAIT_MS = 200


def main() -> None:
    """Take part in all swarms until killed."""
    torrents, save, address, peers = Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4].split(",")
    session = lt.session(
        {
            "listen_interfaces": f"{address}:{PORT}",
            "outgoing_interfaces": address,
            "enable_dht": False,
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "allow_multiple_connections_per_ip": True,
            "active_limit": MANY,
            "active_downloads": MANY,
            "active_seeds": MANY,
            "connections_limit": 32_000,
            "alert_queue_size": MANY,
            "alert_mask": lt.alert.category_t.status_notification,
        }
    )
    handles = []
    for file in sorted(torrents.iterdir()):
        parameters = lt.load_torrent_file(str(file))
        parameters.save_path = save
        parameters.flags &= ~lt.torrent_flags.auto_managed
        parameters.flags &= ~lt.torrent_flags.paused
        handles.append(session.add_torrent(parameters))
    checked: set[str] = set()
    finished: set[str] = set()

    def wait_for(count: int, into: set[str]) -> None:
        while len(into) < count:
            session.wait_for_alert(_LONGEST_WAIT_MS)
            for alert in session.pop_alerts():
                if isinstance(alert, lt.torrent_checked_alert):
                    checked.add(str(alert.handle.info_hashes().v2))
                elif isinstance(alert, lt.torrent_finished_alert):
                    finished.add(str(alert.handle.info_hashes().v2))

    wait_for(len(handles), checked)
    print("ready", flush=True)
    sys.stdin.readline()
    for handle in handles:
        for peer in peers:
            handle.connect_peer((peer, PORT))
    wait_for(len(handles), finished)
    print("done", flush=True)
    for _ in sys.stdin:
        print(sum(handle.status().all_time_upload for handle in handles), flush=True)


if __name__ == "__main__":
    main()
