# SPDX-License-Identifier: Apache-2.0
"""Where a libtorrent session listens and dials from, and which of its peers belong to a network that was left.

Measured with libtorrent 2.1.1:
- new `listen_interfaces` open and close what differs, and leave the other sockets alone;
- connections live on when their address is gone, until a timeout of minutes; an IP filter ends them at once, and with
  them goes what the torrent knew of the peer, so that it is not dialled from the next network;
- `outgoing_interfaces` are taken in turn, whatever the version of IP and the route: with two of them every other dial
  fails. So libtorrent is bound to a single one; with several the kernel chooses, and nobody is dialled whom it would
  reach through an interface that is not ours.
"""

import errno
import socket
from collections.abc import Collection, Iterable, Sequence
from ipaddress import ip_address

import libtorrent as lt
import psutil
import trio

from p2pd.host.supervise import ServiceFailure
from p2pd.ports import Endpoint
from signing.errors import BadInput

LISTEN_SECONDS = 10.0
_NOWHERE = "no such interface"  # longer than a name can be: dials fail, where an empty setting would allow them all
_ANY_PORT = 9  # asking for a route takes one; nothing is sent


class TorrentAddresses:
    """Where the session is, by its alerts, and where it shall be."""

    def __init__(self, interfaces: Sequence[Endpoint], port: int) -> None:
        """Raises BadInput when the interfaces cannot be listened on together."""
        self.port = port  # 0 until the kernel has chosen one
        self.hosts = tuple(interface.host for interface in interfaces)
        self._open: set[Endpoint] = set()
        self._dialled: set[str] = set()
        self._failure: tuple[str, int, str] | None = None  # where, errno, message
        self._news = trio.Event()
        _check(interfaces)

    def settings(self) -> "lt.settings_pack":
        """For the session."""
        return {
            # TLS sockets ("s") on the named addresses only.
            "listen_interfaces": ",".join(f"{_bracketed(host)}:{self.port}s" for host in self.hosts),
            "outgoing_interfaces": ("" if len(self.hosts) > 1 else self.hosts[0]) if self.hosts else _NOWHERE,
        }

    def move_to(self, hosts: Sequence[str]) -> None:
        """From now on these; `settings` are to be applied then."""
        _check([Endpoint(host=host, port=self.port) for host in hosts])
        self.hosts = tuple(hosts)
        self._open = {endpoint for endpoint in self._open if endpoint.host in hosts}
        self._failure = None

    @property
    def is_complete(self) -> bool:
        """Every address is listened on."""
        return {endpoint.host for endpoint in self._open} >= set(self.hosts)

    def receive(self, alert: lt.listen_succeeded_alert | lt.listen_failed_alert) -> None:
        """Take in what became of a socket."""
        if alert.address not in self.hosts or alert.socket_type != lt.socket_type_t.tcp_ssl:
            return
        endpoint = Endpoint(host=alert.address, port=alert.port)
        if isinstance(alert, lt.listen_succeeded_alert):
            self._open.add(endpoint)
            self.port = alert.port
        else:
            self._open.discard(endpoint)
            where = f"torrent interface {alert.address} port {alert.port}"
            self._failure = (where, alert.error.value(), alert.error.message())
        self._news.set()

    async def all_open(self) -> None:
        """Return once all addresses are listened on. Raises BadInput for a port in use, ServiceFailure."""
        with trio.move_on_after(LISTEN_SECONDS):
            while self._failure is None and not self.is_complete:
                await self._news.wait()
                self._news = trio.Event()
        if self._failure is not None:
            where, code, problem = self._failure
            if code == errno.EADDRINUSE:
                raise BadInput(where, "is in use by another program", "stop it, or configure another torrent port")
            raise ServiceFailure(f"{where}: {problem}")
        if not self.is_complete:
            raise ServiceFailure(f"only {len(self._open)} of {len(self.hosts)} torrent interfaces listen")

    def may_dial(self, endpoint: Endpoint) -> bool:
        """Not ourselves, as libtorrent would dial again and again, nor whom only an interface not ours leads to."""
        if endpoint in self._open or not self.hosts or (len(self.hosts) > 1 and not self._leads_to(endpoint.host)):
            return False
        self._dialled.add(endpoint.host)
        return True

    def forget_unreachable(self, session: lt.session, handles: Iterable[lt.torrent_handle]) -> None:
        """End connections from addresses that are gone, and forget peers that are out of reach now.

        Waits for libtorrent's network thread: for a worker thread.
        """
        away = {host for host in self._dialled if not self._leads_to(host)}
        for handle in handles:
            try:
                peers = handle.get_peer_info()
            except RuntimeError:  # the torrent was removed in the meantime
                continue
            away |= {peer.ip[0] for peer in peers if not self._is_reached(peer)}
        self._dialled -= away
        before, without = session.get_ip_filter(), session.get_ip_filter()
        for host in away:
            without.add_rule(host, host, 1)
        session.set_ip_filter(without)
        session.set_ip_filter(before)

    def _is_reached(self, peer: lt.peer_info) -> bool:
        source, port = peer.local_endpoint()
        return self._is_ours(source) if port else self._leads_to(peer.ip[0])  # no port: still being dialled

    def _leads_to(self, host: str) -> bool:
        source = _source_towards(host)
        return source is not None and self._is_ours(source)

    def _is_ours(self, source: str) -> bool:
        """An address that was chosen, or another one of the same interface, such as a temporary one."""
        if source in self.hosts:
            return True
        devices = _devices([source, *self.hosts])
        return source in devices and devices[source] in {devices.get(host) for host in self.hosts}


def _check(interfaces: Sequence[Endpoint]) -> None:
    ports = {interface.port for interface in interfaces}
    if len(ports) > 1 or (ports == {0} and len(interfaces) > 1):
        remedy = "name one port for all of them, not 0 when there are several"
        raise BadInput("torrent interfaces", f"must share one port, have {sorted(ports)}", remedy)
    for interface in interfaces:
        _bracketed(interface.host)


def _bracketed(host: str) -> str:
    try:
        return f"[{host}]" if ip_address(host).version == 6 else host
    except ValueError:
        raise BadInput("torrent interfaces", f"{host!r} is no IP address", "name addresses of this host") from None


def _source_towards(host: str) -> str | None:
    """The address that the kernel would dial `host` from; None if it knows no way. Sends nothing."""
    family = socket.AF_INET6 if ip_address(host).version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, _ANY_PORT))
        except OSError:
            return None
        source: str = probe.getsockname()[0]
        return source


def _devices(hosts: Collection[str]) -> dict[str, str]:
    """The interface of each address that is on one. All of 127.0.0.0/8 is on the loopback device."""
    found = {host: "lo" for host in hosts if ip_address(host).is_loopback}
    for device, entries in psutil.net_if_addrs().items():
        found |= {entry.address: device for entry in entries if entry.address in hosts}
    return found
