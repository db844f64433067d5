# SPDX-License-Identifier: Apache-2.0
"""The agent's Prometheus metrics: base units, bounded labels (products and reasons come from signed documents)."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from signing.report import InstallState

_SECONDS = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3_600, 14_400)


class AgentMetrics:
    """One set of metrics on a registry of its own, so that several agents fit into one test process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._received = Counter(
            "p2pd_bytes_received_total",
            "Payload bytes received, by where they came from",
            ["source"],
            registry=registry,
        )
        for source in ("lan", "origin", "web"):
            self._received.labels(source)
        self.transfer_seconds = Histogram(
            "p2pd_transfer_duration_seconds",
            "From the first piece wanted to the last on disk",
            buckets=_SECONDS,
            registry=registry,
        )
        self.install_seconds = Histogram(
            "p2pd_install_duration_seconds",
            "From the install request to the switched slot",
            buckets=_SECONDS,
            registry=registry,
        )
        self._state = Gauge(
            "p2pd_release_state",
            "1 for the state that a product's newest attempt is in",
            ["product", "state"],
            registry=registry,
        )
        self._states: dict[str, InstallState] = {}
        self._expiry = Gauge(
            "p2pd_metadata_expiry_timestamp_seconds",
            "When signed metadata expires, by TUF role",
            ["role"],
            registry=registry,
        )
        self.peers = Gauge(
            "p2pd_peers", "Recognised endpoints of this site that announce themselves", registry=registry
        )
        self.addresses = Gauge(
            "p2pd_addresses", "Addresses of configured interfaces that are listened on", registry=registry
        )
        self._refusals = Counter(
            "p2pd_refusals_total", "Actions not taken or undone, by reason code", ["reason"], registry=registry
        )
        self.spooled_reports = Gauge("p2pd_spooled_reports", "Reports that wait for the coordinator", registry=registry)

    def received(self, source: str, count: int) -> None:
        """Count payload bytes from `source`: lan, origin or web."""
        self._received.labels(source).inc(count)

    def refused(self, reason: str) -> None:
        """Count one refusal, wait, failure or rollback."""
        self._refusals.labels(reason).inc()

    def release_state(self, product: str, state: InstallState) -> None:
        """Say which state a product's attempt is in now."""
        before = self._states.get(product)
        if before is not None and before is not state:
            self._state.remove(product, before.value)
        if before is not state:
            self._states[product] = state
            self._state.labels(product, state.value).set(1)

    def metadata_expiry(self, role: str, unix: float) -> None:
        """Say when a role's metadata expires."""
        self._expiry.labels(role).set(unix)
