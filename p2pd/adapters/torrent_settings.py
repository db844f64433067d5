# SPDX-License-Identifier: Apache-2.0
"""libtorrent's settings, as this project wants them: mutual TLS over TCP on named interfaces, and nothing else."""

from dataclasses import dataclass
from typing import cast

import libtorrent as lt

from p2pd.ports import peer_id_of

# Pieces that count as had may lie in memory still, up to this size: it is what a slow disk can take of the host's
# memory, and the most that a kill can cost (mostly less: see FLUSH_SECONDS of the transfers). In a few runs over
# loopback 4 MiB were no slower than libtorrent's 100 MiB.
DISK_QUEUE_BYTES = 4 * 2**20
ALERT_QUEUE = 10_000  # a burst of finished pieces; what is dropped beyond is asked for again
IDLE_TICK_MILLISECONDS = 1_000  # the longest that libtorrent allows for; whoever uploads only does not wait for ticks
TICK_MILLISECONDS = 100  # libtorrent dials on the first tick after each full second; by default it ticks twice a second

# The events that drive a transfer; nothing for each block or request.
ALERT_MASK = (
    lt.alert_category.error
    | lt.alert_category.status
    | lt.alert_category.storage
    | lt.alert_category.connect
    | lt.alert_category.piece_progress
    | lt.alert_category.peer  # who was cut off for wrong data
)

# RFC 7919, ffdhe2048. libtorrent insists on parameters for an exchange that TLS 1.3 with our P-256 keys never makes.
DH_PARAMETERS = """\
-----BEGIN DH PARAMETERS-----
MIIBCAKCAQEA//////////+t+FRYortKmq/cViAnPTzx2LnFg84tNpWp4TZBFGQz
+8yTnc4kmz75fS/jY2MMddj2gbICrsRhetPfHtXV/WVhJDP1H18GbtCFY2VVPe0a
87VXE15/V8k1mE8McODmi3fipona8+/och3xWKE2rec1MKzKT0g6eXq8CrGCsyT7
YdEIqUuyyOP7uWrat2DX9GgdT0Kj3jlN9K5W7edjcrsZCwenyO4KbXCeAvzhzffi
7MA0BM0oNC9hkXL+nOmFg/+OTxIy7vKBg8P+OxtMb61zO7X8vC7CIAXFjvGDfRaD
ssbzSibBsu/6iGtCOGEoXJf//////////wIBAg==
-----END DH PARAMETERS-----
"""


@dataclass(frozen=True, kw_only=True)
class SwarmLimits:
    """What the swarm may use of the host; None means no limit."""

    connections: int = 200
    upload_bytes_per_s: int | None = None
    download_bytes_per_s: int | None = None


def session_params(addresses: "lt.settings_pack", device: str, limits: SwarmLimits) -> lt.session_params:
    """All that a session begins with. `addresses`: `TorrentAddresses.settings`."""
    params = lt.session_params()
    params.settings = {**_settings(device, limits), **addresses}
    # Plain reads and writes report a full disk as an error; a memory-mapped file answers with SIGBUS.
    params.disk_io_constructor = "pread_disk_io_constructor"
    return params


def pace_settings(*, is_idle: bool) -> "lt.settings_pack":
    """How often libtorrent wakes up: dialling and rate limits go by its ticks, answering peers does not."""
    return {"tick_interval": IDLE_TICK_MILLISECONDS if is_idle else TICK_MILLISECONDS}


def rate_settings(upload: int | None, download: int | None) -> "lt.settings_pack":
    """Bytes per second; None: no limit. An upload of 0 chokes every peer: libtorrent takes a rate of 0 for no limit."""
    up, down = upload or 0, download or 0
    return {
        "unchoke_slots_limit": 0 if upload == 0 else -1,
        # libtorrent files private addresses under "local", which its plain limits leave out.
        "upload_rate_limit": up,
        "local_upload_rate_limit": up,
        "download_rate_limit": down,
        "local_download_rate_limit": down,
    }


def _settings(device: str, limits: SwarmLimits) -> "lt.settings_pack":
    return {
        # Where: no other port when that one is taken.
        "max_retry_port_bind": 0,
        "listen_system_port_fallback": False,
        "listen_queue_size": 64,
        # Whom: only peers that we are told of. Nothing announces, searches, or asks a router for anything.
        "enable_dht": False,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        # How: TCP only, so that one kind of connection is all there is to test, shape and filter; uTP was not measured.
        # Yielding to people's traffic is the work of the budgets.
        "enable_incoming_utp": False,
        "enable_outgoing_utp": False,
        # libtorrent takes 20 bytes of fingerprint as the whole peer id; its annotation wants text, its code does not.
        "peer_fingerprint": cast("str", peer_id_of(device)),
        "user_agent": "p2pd",
        # Several endpoints may share an address (behind NAT, or in a demo), told apart by port and peer id.
        "allow_multiple_connections_per_ip": True,
        # A peer that completes must not drop neighbours before its last pieces have reached them.
        "close_redundant_connections": False,
        # A peer whose first dial is refused is dialled again at once: on a LAN it has most likely just started. After
        # that it is left to whoever asked for the connection to ask again (measured: at 1, 3 and 6 s, then no more).
        "min_reconnect_time": 1,
        "max_failcount": 3,
        "peer_connect_timeout": 5,
        "handshake_timeout": 10,
        "connection_speed": 200,
        # Endpoints of one fleet do not barter: everybody uploads to everybody, and none is dropped for another.
        "peer_turnover": 0,
        "connections_limit": limits.connections,
        **rate_settings(limits.upload_bytes_per_s, limits.download_bytes_per_s),
        "max_queued_disk_bytes": DISK_QUEUE_BYTES,
        # Every block wakes all of libtorrent's disk threads, ten by default: that alone took a tenth of an agent's CPU.
        "aio_threads": 2,
        "hashing_threads": 1,
        **pace_settings(is_idle=True),
        "alert_mask": ALERT_MASK,
        "alert_queue_size": ALERT_QUEUE,
    }
