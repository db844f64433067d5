# SPDX-License-Identifier: Apache-2.0
"""Brings libtorrent's alerts into trio: no thread, no polling.

libtorrent writes a byte to a socket when its queue of alerts stops being empty; trio waits for that socket. A stream of
alerts is taken in batches, since each wake-up of the interpreter costs more than the alerts that it brings.
"""

import socket
from typing import Protocol

import libtorrent as lt
import trio

WAKE_BYTES = 4_096  # more than libtorrent ever leaves unread: it writes one byte for a queue that was empty
NO_FILE = -1


class AlertSource(Protocol):
    """A session, and who takes in its alerts."""

    def set_alert_fd(self, descriptor: int) -> None:
        """Have a byte written to `descriptor` when there are alerts."""

    def pop_alerts(self) -> list[lt.alert]:
        """The alerts since the last call, which invalidates those of the call before."""

    def receive(self, alert: lt.alert) -> None:
        """Take in one alert, which is valid during this call only."""

    async def gather(self) -> None:
        """Let alerts come together for a moment, unless somebody waits for the next one."""


async def pump_alerts(source: AlertSource, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Move alerts until cancelled."""
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.setblocking(False)
        writer.setblocking(False)  # libtorrent's network thread must never wait for us
        source.set_alert_fd(writer.fileno())
        task_status.started()
        try:
            while True:
                await trio.lowlevel.wait_readable(reader)
                # Read before taking the alerts: one that comes in between then leaves a byte to wake us again.
                reader.recv(WAKE_BYTES)
                for alert in source.pop_alerts():
                    source.receive(alert)
                await source.gather()
        finally:
            source.set_alert_fd(NO_FILE)  # or libtorrent would write into whatever file gets this number next
