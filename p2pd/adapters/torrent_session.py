# SPDX-License-Identifier: Apache-2.0
"""A libtorrent session as a Swarm: mutual TLS on the configured interfaces, alerts through trio.

libtorrent itself refuses a peer whose certificate does not chain to the authority inside the torrent, or does not name
the torrent's name, the segment. It keeps certificates in memory only: each torrent gets ours before it may speak.
"""

import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import libtorrent as lt
import trio

from p2pd.adapters.alert_pump import pump_alerts
from p2pd.adapters.torrent_addresses import TorrentAddresses
from p2pd.adapters.torrent_settings import SwarmLimits, pace_settings, rate_settings, session_params
from p2pd.adapters.torrent_transfer import TorrentTransfer
from p2pd.host.telemetry import log
from p2pd.host.torrent_file import read_torrent
from p2pd.ports import Endpoint, PayloadStoreFull, TorrentSpec, TransferFailed
from signing.devices import DeviceKey, read_device_certificate
from signing.errors import BadInput

CONNECTIONS_PER_TORRENT = 64  # nobody dials more than about 30 neighbours; whoever is refused finds others
BATCH_SECONDS = 0.1  # between two batches of alerts, while transfers go on and nobody waits for a certain one

_FLAGS = (
    lt.torrent_flags.paused  # until it has a certificate
    | lt.torrent_flags.disable_dht
    | lt.torrent_flags.disable_lsd
    | lt.torrent_flags.disable_pex
    | lt.torrent_flags.duplicate_is_error
    | lt.torrent_flags.apply_ip_filter  # how peers of a network that was left are forgotten
)

_log = log("torrent_session")
_abandoned: list[lt.session] = []  # sessions that cannot be destroyed without waiting for a stuck disk


class TorrentSwarm:
    """Implements `p2pd.ports.Swarm`. Made by `open_torrent_session` only.

    It alone refers to the session, so that `end` destroys it: its destructor keeps the whole interpreter waiting for
    libtorrent's threads, which is over at once when they have nothing left to do.
    """

    def __init__(self, params: lt.session_params, addresses: TorrentAddresses) -> None:
        self._session = lt.session(params)
        self._addresses = addresses
        self._moving = trio.Lock()
        self._tasks: trio.Nursery | None = None
        self._transfers: dict[lt.torrent_handle, TorrentTransfer] = {}
        self._certificate = self._key = ""
        self._is_stuck = False
        self._is_idle = True
        self._hurry = trio.Event()
        self._pumping = trio.CancelScope(shield=True)

    @property
    def port(self) -> int:
        """The TLS port that the session listens on, at every interface."""
        return self._addresses.port

    async def listen_on(self, hosts: Sequence[str]) -> None:
        """See `p2pd.ports.Swarm`. Raises BadInput, ServiceFailure."""
        async with self._moving:
            before = self._addresses.settings()
            self._addresses.move_to(hosts)
            self._session.apply_settings(self._addresses.settings())
            if self._addresses.settings() == before and not self._addresses.is_complete:
                self._session.reopen_network_sockets(0)  # settings that do not change open nothing
            await self._addresses.all_open()
            await trio.to_thread.run_sync(
                self._addresses.forget_unreachable, self._session, tuple(self._transfers), abandon_on_cancel=False
            )

    def use_certificate(self, certificate_pem: bytes, key_pem: bytes) -> None:
        """Show this certificate in all handshakes from now on. Raises BadInput when the two do not match."""
        certificate = read_device_certificate(certificate_pem, where="device certificate")
        if certificate.public_pem != DeviceKey.from_pem(key_pem).public_pem:
            raise BadInput("device certificate", "does not belong to the device key", "enrol the device again")
        self._certificate, self._key = certificate_pem.decode("ascii"), key_pem.decode("ascii")
        for transfer in self._transfers.values():
            transfer.show_certificate(self._certificate, self._key)

    def limit(self, *, upload: int | None, download: int | None) -> None:
        """See `p2pd.ports.Swarm`."""
        self._session.apply_settings(rate_settings(upload, download))
        is_cut_off = download == 0
        if is_cut_off is not self._session.is_paused():
            (self._session.pause if is_cut_off else self._session.resume)()

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
        params.max_connections = CONNECTIONS_PER_TORRENT
        # Waits for libtorrent's network thread, which may be busy.
        handle = await trio.to_thread.run_sync(self._session.add_torrent, params)
        transfer = self._transfers[handle] = TorrentTransfer(handle, facts, self._addresses.may_dial, self._make_haste)
        self._keep_pace()
        watching = trio.CancelScope()
        try:
            transfer.show_certificate(self._certificate, self._key)
            for peer in spec.peers:
                transfer.connect(peer)
            handle.resume()  # libtorrent dials whom it knows by now; for others it waits for the next full second
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
            self._keep_pace()

    async def start(self, tasks: trio.Nursery) -> None:
        """Take alerts, and return once all interfaces listen. Raises BadInput or ServiceFailure when one cannot."""
        self._tasks = tasks
        await tasks.start(self._pump)
        await self._addresses.all_open()

    async def _pump(self, *, task_status: trio.TaskStatus[None]) -> None:
        # Shielded until `stop`: transfers that are cancelled still wait, each with a deadline, for their last alerts.
        with self._pumping:
            try:
                await pump_alerts(self, task_status=task_status)
            finally:
                for transfer in self._transfers.values():
                    transfer.deafen()

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

    async def gather(self) -> None:
        """For the alert pump."""
        self._hurry = trio.Event()
        if self._transfers and not any(transfer.is_urgent for transfer in self._transfers.values()):
            with trio.move_on_after(BATCH_SECONDS):
                await self._hurry.wait()

    def _make_haste(self) -> None:
        self._hurry.set()

    def receive(self, alert: lt.alert) -> None:
        """For the alert pump."""
        match alert:
            case lt.torrent_alert():
                if transfer := self._transfers.get(alert.handle):
                    transfer.receive(alert)
                    if isinstance(alert, lt.cache_flushed_alert):  # the last of a transfer makes it complete
                        self._keep_pace()
            case lt.state_update_alert():
                for status in alert.status:
                    if transfer := self._transfers.get(status.handle):
                        transfer.receive_status(status)
            case lt.alerts_dropped_alert():
                for transfer in self._transfers.values():
                    transfer.look_again()
            case lt.listen_succeeded_alert() | lt.listen_failed_alert():
                self._addresses.receive(alert)

    def _keep_pace(self) -> None:
        """An idle agent must not wake up for nothing: ticks are rare unless a transfer needs them."""
        is_idle = all(transfer.progress().is_complete for transfer in self._transfers.values())
        if is_idle is not self._is_idle:
            self._is_idle = is_idle
            self._session.apply_settings(pace_settings(is_idle=is_idle))

    def _require_tasks(self) -> trio.Nursery:
        if self._tasks is None:
            raise RuntimeError("the torrent session was not started")
        return self._tasks


@asynccontextmanager
async def open_torrent_session(
    *,
    interfaces: Sequence[Endpoint] = (),
    port: int = 0,
    certificate_pem: bytes,
    key_pem: bytes,
    device: str,
    limits: SwarmLimits | None = None,
) -> AsyncIterator[TorrentSwarm]:
    """A session that listens on `interfaces` (port 0: any, for a single one) while the block lasts, until it is moved.

    Without any it listens nowhere, and dials nobody, until it is moved; then on `port`.
    Raises BadInput when a port is in use or the certificate does not fit, ServiceFailure when an address is not there.
    """
    addresses = TorrentAddresses(interfaces, interfaces[0].port if interfaces else port)
    swarm = TorrentSwarm(session_params(addresses.settings(), device, limits or SwarmLimits()), addresses)
    failure: Exception | None = None
    try:
        swarm.use_certificate(certificate_pem, key_pem)
        async with trio.open_nursery() as tasks:
            try:
                await swarm.start(tasks)
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
