# SPDX-License-Identifier: Apache-2.0
"""The cables of a lab that stands: counted, changed, cut and mended while hosts use them."""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bench.lab import shaping
from bench.lab.commands import batch
from bench.lab.delay import DelayLine
from bench.lab.layout import End, LinkPlan
from bench.lab.topology import LinkSpec, Rate


@dataclass(frozen=True)
class LinkBytes:
    """What was sent into a link so far, Ethernet frames in bytes; `up` is away from the host or the site."""

    up: int
    down: int


class Link:
    """One cable, shaped at both ends, with a delay line in it if the topology gave it delay or loss."""

    def __init__(self, plan: LinkPlan, delay_line: DelayLine | None) -> None:
        """Take over a cable that is plugged in at both ends."""
        self.name = plan.name
        self.spec: LinkSpec = plan.spec
        self.inner: End = plan.inner
        self.outer: End = plan.outer
        self.delay_line = delay_line
        self._before = LinkBytes(0, 0)  # what queues had counted that have been replaced by queues of another kind

    def change(
        self,
        *,
        up: Rate | None = None,
        down: Rate | None = None,
        delay_ms: float | None = None,
        loss: float | None = None,
    ) -> None:
        """Change what is given, from now on; packets on their way keep their delay.

        Raises ValueError for values that no link has, and for delay or loss on a link that was built without any.
        """
        spec = dataclasses.replace(
            self.spec,
            up=self.spec.up if up is None else up,
            down=self.spec.down if down is None else down,
            delay_ms=self.spec.delay_ms if delay_ms is None else delay_ms,
            loss=self.spec.loss if loss is None else loss,
        )
        if (spec.delay_ms, spec.loss) != (self.spec.delay_ms, self.spec.loss):
            if self.delay_line is None:
                raise ValueError(f"link {self.name} was built without delay and loss; give it some in the topology")
            self.delay_line.change(delay_ms=spec.delay_ms, loss=spec.loss)
        counted = self.bytes()
        for end, rate, previous in (
            (self.inner, spec.up, self.spec.up),
            (self.outer, spec.down, self.spec.down),
        ):
            if rate != previous:
                batch("tc", [shaping.qdisc(end.interface, rate, spec.queue_ms)], namespace=end.namespace)
        self._before = LinkBytes(
            up=counted.up if self.spec.up is None and spec.up is not None else self._before.up,
            down=counted.down if self.spec.down is None and spec.down is not None else self._before.down,
        )
        self.spec = spec

    def cut(self) -> None:
        """Let nothing pass any more, as if the plug was pulled at the network's end."""
        self._set_outer("down")

    def restore(self) -> None:
        """Plug it in again."""
        self._set_outer("up")

    def bytes(self) -> LinkBytes:
        """What was sent into it since the lab was built, in each direction, lost packets included."""
        return bytes_of([self])[self.name]

    def counted(self, sent: Mapping[End, int]) -> LinkBytes:
        """Its bytes, from the counters of all ends."""
        return LinkBytes(up=self._before.up + sent[self.inner], down=self._before.down + sent[self.outer])

    def _set_outer(self, state: str) -> None:
        batch("ip", [f"link set dev {self.outer.interface} {state}"], namespace=self.outer.namespace)


def bytes_of(links: Iterable[Link]) -> dict[str, LinkBytes]:
    """The bytes of each link by its name; one call of `tc` a namespace, about 5 ms each."""
    links = list(links)
    sent: dict[End, int] = {}
    for namespace in dict.fromkeys(end.namespace for link in links for end in (link.inner, link.outer)):
        for interface, count in shaping.sent_bytes(namespace).items():
            sent[End(namespace=namespace, interface=interface)] = count
    return {link.name: link.counted(sent) for link in links}
