# SPDX-License-Identifier: Apache-2.0
"""A libtorrent session as a Swarm: mutual TLS on the configured interfaces, alerts through trio.

libtorrent itself refuses a peer whose certificate does not chain to the authority inside the torrent, or does not name
the torrent's name, the segment. It keeps certificates in memory only: each torrent gets ours before it may speak.
"""

import errno
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import libtorrent as lt
import trio

from p2pd.adapters.alert_pump import pump_alerts
from p2pd.adapters.torrent_settings import SwarmLimits, session_params
from p2pd.adapters.torrent_transfer import TorrentTransfer
from p2pd.host.supervise import ServiceFailure
from p2pd.host.telemetry import log
from p2pd.host.torrent_file import read_torrent
from p2pd.ports import Endpoint, PayloadStoreFull, TorrentSpec, TransferFailed
from signing.devices import DeviceKey, read_device_certificate
from signing.errors import BadInput

LISTEN_SECONDS = 10.0

_FLAGS = (
    lt.torrent_flags.paused  # until it has a certificate
    | lt.torrent_flags.disable_dht
    | lt.torrent_flags.disable_lsd
    | lt.torrent_flags.disable_pex
    | lt.torrent_flags.duplicate_is_error
)

_log = log("torrent_session")
_abandoned: list[lt.session] = []  # sessions that cannot be destroyed without waiting for a stuck disk


class TorrentSwarm:
    """Implements `p2pd.ports.Swarm`. Made by `open_torrent_session` only.

    It alone refers to the session, so that `end` destroys it: its destructor keeps the whole interpreter waiting for
    libtorrent's threads, which is over at once when they have nothing left to do.
    """

    def __init__(self, params: lt.session_params) -> None:
        self._session = lt.session(params)
        self._tasks: trio.Nursery | None = None
        self._transfers: dict[lt.torrent_handle, TorrentTransfer] = {}
        self._listening: set[Endpoint] = set()
        self._listen_failure: tuple[str, int, str] | None = None  # where, errno, message
        self._listen_news = trio.Event()
        self._certificate = self._key = ""
        self._is_stuck = False
        self._pumping = trio.CancelScope(shield=True)

    @property
    def port(self) -> int:
        """The TLS port that the session listens on, at every interface."""
        return next(iter(self._listening)).port

    def use_certificate(self, certificate_pem: bytes, key_pem: bytes) -> None:
        """Show this certificate in all handshakes from now on. Raises BadInput when the two do not match."""
        certificate = read_device_certificate(certificate_pem, where="device certificate")
        if certificate.public_pem != DeviceKey.from_pem(key_pem).public_pem:
            raise BadInput("device certificate", "does not belong to the device key", "enrol the device again")
        self._certificate, self._key = certificate_pem.decode("ascii"), key_pem.decode("ascii")
        for transfer in self._transfers.values():
            transfer.show_certificate(self._certificate, self._key)

    @asynccontextmanager
    async def transfer(self, spec: TorrentSpec) -> AsyncIterator[TorrentTransfer]:
        """Carry `spec` while the block lasts. Pieces that lie on disk already are checked, and kept, before it begins.

        Raises BadInput when the torrent is not the one that `spec` describes, and TransferFailed.
        """
        facts = read_torrent(spec.torrent, where=f"torrent {spec.info_hash}", name=spec.name, info_hash=spec.info_hash)
        await trio.to_thread.run_sync(_prepare_file, spec, facts.size)
        params = lt.load_torrent_buffer(spec.torrent)
        params.save_path = str(spec.directory)
        params.flags = _FLAGS
        # All of the space at once: a full disk is news at the start, not near the end.
        params.storage_mode = lt.storage_mode_t.storage_mode_allocate
        # Waits for libtorrent's network thread, which may be busy.
        handle = await trio.to_thread.run_sync(self._session.add_torrent, params)
        transfer = self._transfers[handle] = TorrentTransfer(handle, facts, self._listening)
        watching = trio.CancelScope()
        try:
            transfer.show_certificate(self._certificate, self._key)
            handle.resume()
            await transfer.checked()
            self._require_tasks().start_soon(_watch, transfer, watching)
            yield transfer
        finally:
            watching.cancel()
            has_settled = await transfer.settled()
            self._session.remove_torrent(handle)
            if not await transfer.removed() or not has_settled:
                self._is_stuck = True
            del self._transfers[handle]

    async def start(self, tasks: trio.Nursery, interface_count: int) -> None:
        """Take alerts, and return once all interfaces listen. Raises BadInput or ServiceFailure when one cannot."""
        self._tasks = tasks
        await tasks.start(self._pump)
        await self._all_listen(interface_count)

    async def _pump(self, *, task_status: trio.TaskStatus[None]) -> None:
        # Shielded until `stop`: transfers that are cancelled still wait, each with a deadline, for their last alerts.
        with self._pumping:
            try:
                await pump_alerts(self, task_status=task_status)
            finally:
                for transfer in self._transfers.values():
                    transfer.deafen()

    async def _all_listen(self, count: int) -> None:
        with trio.move_on_after(LISTEN_SECONDS):
            while self._listen_failure is None and len(self._listening) < count:
                await self._listen_news.wait()
                self._listen_news = trio.Event()
        if self._listen_failure is not None:
            where, code, problem = self._listen_failure
            if code == errno.EADDRINUSE:
                raise BadInput(where, "is in use by another program", "stop it, or configure another torrent port")
            raise ServiceFailure(f"{where}: {problem}")
        if len(self._listening) < count:
            raise ServiceFailure(f"only {len(self._listening)} of {count} torrent interfaces listen")

    def stop(self) -> None:
        """Take no more alerts, once all transfers are over."""
        self._pumping.cancel()

    def end(self) -> None:
        """Destroy the session, once stopped."""
        if self._is_stuck:
            _log.warning("libtorrent does not stop, most likely because its disk does not answer; left running")
            _abandoned.append(self._session)
        del self._session

    def set_alert_fd(self, descriptor: int) -> None:
        """For the alert pump."""
        self._session.set_alert_fd(descriptor)

    def pop_alerts(self) -> list[lt.alert]:
        """For the alert pump."""
        return self._session.pop_alerts()

    def receive(self, alert: lt.alert) -> None:
        """For the alert pump."""
        match alert:
            case lt.torrent_alert():
                if transfer := self._transfers.get(alert.handle):
                    transfer.receive(alert)
            case lt.state_update_alert():
                for status in alert.status:
                    if transfer := self._transfers.get(status.handle):
                        transfer.receive_status(status)
            case lt.alerts_dropped_alert():
                for transfer in self._transfers.values():
                    transfer.look_again()
            case lt.listen_succeeded_alert():
                if alert.socket_type == lt.socket_type_t.tcp_ssl:
                    self._listening.add(Endpoint(host=alert.address, port=alert.port))
                    self._listen_news.set()
            case lt.listen_failed_alert():
                where = f"torrent interface {alert.address} port {alert.port}"
                self._listen_failure = (where, alert.error.value(), alert.error.message())
                self._listen_news.set()

    def _require_tasks(self) -> trio.Nursery:
        if self._tasks is None:
            raise RuntimeError("the torrent session was not started")
        return self._tasks


@asynccontextmanager
async def open_torrent_session(
    *,
    interfaces: Sequence[Endpoint],
    certificate_pem: bytes,
    key_pem: bytes,
    device: str,
    limits: SwarmLimits | None = None,
) -> AsyncIterator[TorrentSwarm]:
    """A session that listens on `interfaces` (port 0: any, for a single one) while the block lasts.

    Raises BadInput when a port is in use or the certificate does not fit, ServiceFailure when an address is not there.
    """
    swarm = TorrentSwarm(session_params(interfaces, device, limits or SwarmLimits()))
    failure: Exception | None = None
    try:
        swarm.use_certificate(certificate_pem, key_pem)
        async with trio.open_nursery() as tasks:
            try:
                await swarm.start(tasks, len(interfaces))
                yield swarm
            except Exception as problem:
                failure = problem  # raised below: here the nursery would wrap it in a group
            finally:
                swarm.stop()
    finally:
        swarm.end()
    if failure is not None:
        raise failure


async def _watch(transfer: TorrentTransfer, scope: trio.CancelScope) -> None:
    with scope:
        await transfer.watch_peers()


def _prepare_file(spec: TorrentSpec, size: int) -> None:
    """Make sure that there is room, and that no file that is too long passes for complete.

    libtorrent takes pieces into memory for a while before it finds the disk full. Synchronous, for a worker thread.
    Raises TransferFailed.
    """
    path = spec.directory / spec.name
    try:
        spec.directory.mkdir(parents=True, exist_ok=True)
        there = 0
        if path.exists():
            if path.stat().st_size > size:
                os.truncate(path, size)
            there = path.stat().st_blocks * 512  # POSIX counts allocated blocks in units of 512 bytes
        if shutil.disk_usage(spec.directory).free < size - there:
            raise PayloadStoreFull(f"{spec.directory}: less than {size - there} bytes are free")
    except OSError as problem:
        raise TransferFailed(f"{path}: {problem.strerror}") from None
