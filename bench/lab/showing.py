# SPDX-License-Identifier: Apache-2.0
"""A lab in words: tables of its hosts and links."""

from collections.abc import Iterable, Sequence

from bench.lab.layout import lay_out
from bench.lab.network import Network
from bench.lab.topology import LinkSpec, Rate, Topology

_UNITS = ((1_000_000_000, "gbit"), (1_000_000, "mbit"), (1_000, "kbit"), (1, "bit"))


def what_it_would_be(topology: Topology) -> str:
    """The hosts and links of a topology that has not been built."""
    layout = lay_out(topology, "lab")
    hosts = [(host.name, host.address, host.address6 or "-") for host in layout.hosts]
    links = [(link.name, *_spec_columns(link.spec)) for link in layout.links]
    return _tables(("HOST", "IPV4", "IPV6"), hosts, links)


def described(network: Network) -> str:
    """The hosts and links of a network that stands; the namespace is for `ip netns exec`."""
    hosts = [(host.name, host.address, host.address6 or "-", host.namespace) for host in network.hosts]
    links = [(link.name, *_spec_columns(link.spec)) for link in network.links.values()]
    return _tables(("HOST", "IPV4", "IPV6", "NAMESPACE"), hosts, links)


def rate_in_words(rate: Rate | None) -> str:
    """A rate as a topology's file writes it."""
    if rate is None:
        return "-"
    size, unit = next((size, unit) for size, unit in _UNITS if rate >= size)
    return f"{rate / size:g}{unit}"


def _spec_columns(spec: LinkSpec) -> tuple[str, ...]:
    return (
        rate_in_words(spec.up),
        rate_in_words(spec.down),
        f"{spec.delay_ms:g}ms",
        f"{spec.loss:g}",
        f"{spec.queue_ms:g}ms",
    )


def _tables(heading: Sequence[str], hosts: Iterable[Sequence[str]], links: Iterable[Sequence[str]]) -> str:
    return _table([heading, *hosts]) + "\n\n" + _table([("LINK", "UP", "DOWN", "DELAY", "LOSS", "QUEUE"), *links])


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
