# SPDX-License-Identifier: Apache-2.0
"""The coordinator's Prometheus metrics; every label comes from a set of bounded size."""

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from seeds.records import Device, Rollout, RolloutState

MAX_PRODUCTS = 200  # a product label each; fleets have dozens


class CoordinatorMetrics:
    """One set per coordinator, in its own registry, which also shows what the process and `p2pd.host` count."""

    def __init__(self, unix_now: Callable[[], float]) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_ProcessWide())
        self._unix_now = unix_now
        self.requests = Counter(
            "seeds_requests_total", "HTTP requests answered.", ["route", "status"], registry=self.registry
        )
        self.bytes_served = Counter(
            "seeds_bytes_served_total", "Bytes of response bodies sent.", ["kind"], registry=self.registry
        )
        self.reports = Counter(
            "seeds_reports_total",
            "Reports taken in: accepted, repeat, or the reason code of the refusal.",
            ["outcome"],
            registry=self.registry,
        )
        self.enrolments = Counter(
            "seeds_enrolments_total",
            "Certificates asked for: issued, or the reason code of the refusal.",
            ["request", "outcome"],
            registry=self.registry,
        )
        self.long_polls = Gauge("seeds_long_polls", "Requests that wait for a change.", registry=self.registry)
        self._expiry = Gauge(
            "seeds_metadata_expiry_seconds",
            "Seconds until the role's metadata expires; negative once it has.",
            ["role"],
            registry=self.registry,
        )
        self._rollouts = Gauge(
            "seeds_rollout_state",
            "1 for the state of the product's newest release, 0 for the others.",
            ["product", "state"],
            registry=self.registry,
        )
        self._open_rings = Gauge(
            "seeds_rollout_open_rings",
            "Rings that may install the product's newest release.",
            ["product"],
            registry=self.registry,
        )
        self._shown: dict[str, Rollout] = {}
        self._devices = Gauge("seeds_devices", "Enrolled devices.", ["segment"], registry=self.registry)

    def show_expiries(self, expiries: Mapping[str, float]) -> None:
        """Show when each role's metadata expires (Unix seconds); the seconds left are counted at every scrape."""
        for role, expires in expiries.items():
            self._expiry.labels(role=role).set_function(partial(self._seconds_until, expires))

    def _seconds_until(self, unix: float) -> float:
        return unix - self._unix_now()

    def show_rollouts(self, newest: Mapping[str, Rollout]) -> None:
        """Show the newest rollout of every product, of at most MAX_PRODUCTS of them."""
        shown = {product: newest[product] for product in sorted(newest)[:MAX_PRODUCTS]}
        if shown == self._shown:
            return  # a busy fleet makes a step every second, and a thousand labels take a while
        self._shown = shown
        self._rollouts.clear()
        self._open_rings.clear()
        for product in shown:
            for state in RolloutState:
                self._rollouts.labels(product=product, state=state).set(newest[product].state is state)
            self._open_rings.labels(product=product).set(newest[product].open_rings)

    def show_devices(self, devices: Iterable[Device]) -> None:
        """Show how many devices each segment has."""
        self._devices.clear()
        for segment, count in Tally(device.segment for device in devices).items():
            self._devices.labels(segment=segment).set(count)


class _ProcessWide(Collector):
    """What modules registered for the whole process: restarts, refused connections, memory, open files."""

    def collect(self) -> Iterable[Metric]:
        return REGISTRY.collect()

    def describe(self) -> Iterable[Metric]:
        # Empty: otherwise each registry would collect everything once just to learn the names.
        return []
