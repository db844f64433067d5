# SPDX-License-Identifier: Apache-2.0
"""Renews the device certificate at two thirds of its life, and on the way back from a sleep past its end."""

import random
from collections.abc import Awaitable, Callable

import trio

from p2pd.host.backoff import jittered, restart_delay
from p2pd.host.telemetry import log
from p2pd.host.wall_clock import WallClock
from p2pd.ports_control import Coordinator, CoordinatorUnavailable, Refused, StorageFailed
from p2pd.services.metrics import AgentMetrics
from p2pd.services.site import Identity
from signing.devices import DeviceCertificate, DeviceKey, read_device_certificate
from signing.envelope import seal
from signing.errors import SigningError
from signing.reasons import Reason
from signing.renewal import RenewalRequest

LOOK_SECONDS = 3_600.0  # a laptop's clock jumps over whole sleeps, so look again now and then
RETRY_CAP_SECONDS = 3_600.0

_log = log(__name__)


class Renewal:
    """Keeps one certificate fresh; `use` takes a new one into service and stores it."""

    def __init__(
        self,
        key: DeviceKey,
        certificate: DeviceCertificate,
        coordinator: Coordinator,
        clock: WallClock,
        identity: Identity,
        metrics: AgentMetrics,
        *,
        use: Callable[[bytes], Awaitable[None]],
    ) -> None:
        self._key = key
        self._certificate = certificate
        self._coordinator = coordinator
        self._clock = clock
        self._identity = identity
        self._metrics = metrics
        self._use = use

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Renew for ever. An endpoint that cannot renew goes on with what it has and says so."""
        task_status.started()
        failures = 0
        while True:
            self._metrics.metadata_expiry("device_certificate", self._certificate.not_after.timestamp())
            seconds = (self._certificate.renewal_due() - self._clock.now()).total_seconds()
            if seconds > 0:
                await trio.sleep(min(seconds, LOOK_SECONDS))
                continue
            try:
                await self._renew()
            except (CoordinatorUnavailable, Refused, SigningError, OSError) as problem:  # OSError: ours, to store it
                failures += 1
                _log.warning("certificate not renewed", reason=_reason(problem), why=str(problem))
                pause = restart_delay(failures, cap_seconds=RETRY_CAP_SECONDS)
                await trio.sleep(jittered(pause, 0.2, draw=random.random()))  # noqa: S311 (spreads load, guards nothing)
            else:
                failures = 0

    async def _renew(self) -> None:
        request = RenewalRequest(
            device=self._identity.device,
            csr=self._key.csr(self._identity.device).decode(),
            time=self._clock.unix(),
        )
        pem = await self._coordinator.renew_certificate(seal(request, self._key))
        certificate = read_device_certificate(pem, where="renewed certificate")
        if certificate.public_pem != self._key.public_pem or certificate.device != self._identity.device:
            raise CoordinatorUnavailable("the coordinator sent a certificate for another key or device")
        await self._use(pem)
        self._certificate = certificate
        _log.info("certificate renewed", until=certificate.not_after.isoformat())
        if certificate.renewal_due() <= self._clock.now():
            raise CoordinatorUnavailable("the new certificate is due for renewal already; compare the clocks")


def _reason(problem: Exception) -> Reason | None:
    if isinstance(problem, OSError):
        return StorageFailed(problem).reason
    return problem.reason if isinstance(problem, Refused | SigningError) else None
