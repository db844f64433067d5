# SPDX-License-Identifier: Apache-2.0
"""libtorrent's settings, as this project wants them: mutual TLS over TCP on named interfaces, and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import cast

import libtorrent as lt

from p2pd.ports import Endpoint, peer_id_of
from signing.errors import BadInput

# Pieces that count as had may lie in memory still, up to this size: it is what a slow disk can take of the host's
# memory, and the most that a kill can cost (mostly less: see FLUSH_SECONDS of the transfers). In a few runs over
# loopback 4 MiB were no slower than libtorrent's 100 MiB.
DISK_QUEUE_BYTES = 4 * 2**20
ALERT_QUEUE = 10_000  # a burst of finished pieces; what is dropped beyond is asked for again
TICK_MILLISECONDS = 100  # libtorrent dials on the first tick after each full second; by default it ticks twice a second

# The events that drive a transfer; nothing for each block or request.
ALERT_MASK = (
    lt.alert_category.error
    | lt.alert_category.status
    | lt.alert_category.storage
    | lt.alert_category.connect
    | lt.alert_category.piece_progress
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


def session_params(interfaces: Sequence[Endpoint], device: str, limits: SwarmLimits) -> lt.session_params:
    """All that a session begins with. Raises BadInput when the interfaces cannot be listened on together."""
    params = lt.session_params()
    params.settings = _settings(interfaces, device, limits)
    # Plain reads and writes report a full disk as an error; a memory-mapped file answers with SIGBUS.
    params.disk_io_constructor = "pread_disk_io_constructor"
    return params


def _settings(interfaces: Sequence[Endpoint], device: str, limits: SwarmLimits) -> "lt.settings_pack":
    up, down = limits.upload_bytes_per_s or 0, limits.download_bytes_per_s or 0
    return {
        # Where: TLS sockets ("s") on the named addresses only; no other port when that one is taken.
        "listen_interfaces": _listen_interfaces(interfaces),
        "outgoing_interfaces": ",".join(interface.host for interface in interfaces),
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
        # A peer whose first dial is refused is dialled again at once: on a LAN it has most likely just started.
        "min_reconnect_time": 1,
        "max_failcount": 1_000_000,
        "peer_connect_timeout": 5,
        "handshake_timeout": 10,
        "connection_speed": 200,
        # Endpoints of one fleet do not barter: everybody uploads to everybody, and none is dropped for another.
        "unchoke_slots_limit": -1,
        "peer_turnover": 0,
        "connections_limit": limits.connections,
        # libtorrent files private addresses under "local", which its plain limits leave out.
        "upload_rate_limit": up,
        "local_upload_rate_limit": up,
        "download_rate_limit": down,
        "local_download_rate_limit": down,
        "max_queued_disk_bytes": DISK_QUEUE_BYTES,
        "tick_interval": TICK_MILLISECONDS,
        "alert_mask": ALERT_MASK,
        "alert_queue_size": ALERT_QUEUE,
    }


def _listen_interfaces(interfaces: Sequence[Endpoint]) -> str:
    ports = {interface.port for interface in interfaces}
    if len(ports) != 1 or (ports == {0} and len(interfaces) > 1):
        remedy = "name one port for all of them, not 0 when there are several"
        raise BadInput("torrent interfaces", f"must share one port, have {sorted(ports)}", remedy)
    return ",".join(f"{_bracketed(interface.host)}:{interface.port}s" for interface in interfaces)


def _bracketed(host: str) -> str:
    try:
        return f"[{host}]" if ip_address(host).version == 6 else host
    except ValueError:
        raise BadInput("torrent interfaces", f"{host!r} is no IP address", "name addresses of this host") from None
