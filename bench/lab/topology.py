# SPDX-License-Identifier: Apache-2.0
"""What a lab looks like: the origin, its sites, and the links between them, read from one small TOML file.

    people = false                      # optional: a person at each site, and a plain web server beside the origin
    origin = { rate = "100mbit" }       # the origin's own port

    [[sites]]
    name = "berlin"
    hosts = 5
    lan = { rate = "200mbit" }          # the port of each host
    wan = { up = "10mbit", down = "50mbit", delay = "20ms", loss = 0.005, queue = "50ms" }

A link has `rate` for both directions, or `up` (away from the hosts) and `down`, or neither: then it is not limited.
`delay` is one way, `loss` a fraction of the packets in each direction. A site without `wan` is on the origin's own LAN.
`nat = true` hides a site's addresses behind its router, `ipv6 = true` gives its hosts IPv6 addresses too.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from p2pd.host.config_file import load_config

Rate = int  # bits per second

MAX_HOSTS = 200  # of a whole lab; each is a namespace, and a row in every other's neighbour table
MAX_SITES = 50
MIN_RATE: Rate = 8_000
MAX_RATE: Rate = 100_000_000_000
MAX_DELAY_MS = 10_000.0
MAX_QUEUE_MS = 10_000.0
EXAMPLES = Path(__file__).parent / "topologies"

_SITE_NAME = re.compile(r"[a-z][a-z0-9]{0,7}")  # with "-person" it names an interface: 15 characters
_TAKEN_NAMES = ("origin", "web", "core")
_RATE = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)(bit|kbit|mbit|gbit)")
_BITS = {"bit": 1, "kbit": 1_000, "mbit": 1_000_000, "gbit": 1_000_000_000}
_TIME = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)(ms|s)")
_MILLISECONDS = {"ms": 1.0, "s": 1_000.0}


@dataclass(frozen=True, kw_only=True)
class LinkSpec:
    """One cable: bits per second in each direction (None: no limit), one-way delay, loss, and how long its queue is."""

    up: Rate | None = None
    down: Rate | None = None
    delay_ms: float = 0.0
    loss: float = 0.0
    queue_ms: float = 50.0

    def __post_init__(self) -> None:
        for name, rate in (("up", self.up), ("down", self.down)):
            if rate is not None and not MIN_RATE <= rate <= MAX_RATE:
                raise ValueError(f"{name} is {rate} bit/s; a rate is {MIN_RATE} to {MAX_RATE} bit/s")
        if not 0 <= self.delay_ms <= MAX_DELAY_MS:
            raise ValueError(f"delay is {self.delay_ms} ms; it is 0 to {MAX_DELAY_MS:.0f} ms")
        if not 0 <= self.loss < 1:
            raise ValueError(f"loss is {self.loss}; it is a fraction, 0 or more and below 1")
        if not 0 < self.queue_ms <= MAX_QUEUE_MS:
            raise ValueError(f"queue is {self.queue_ms} ms; it is more than 0 and at most {MAX_QUEUE_MS:.0f} ms")


@dataclass(frozen=True, kw_only=True)
class SiteSpec:
    """`hosts` hosts with a port `lan` each, behind a router with the link `wan`, or without one on the origin's LAN."""

    name: str
    hosts: int
    lan: LinkSpec = LinkSpec()
    wan: LinkSpec | None = None
    nat: bool = False
    ipv6: bool = False

    def __post_init__(self) -> None:
        if not _SITE_NAME.fullmatch(self.name) or self.name in _TAKEN_NAMES:
            raise ValueError(
                f"a site cannot be named {self.name!r}; a name is 1 to 8 of a-z and 0-9, begins with a letter,"
                f" and is none of {', '.join(_TAKEN_NAMES)}"
            )
        if not 1 <= self.hosts <= MAX_HOSTS:
            raise ValueError(f"site {self.name} has {self.hosts} hosts; it has 1 to {MAX_HOSTS}")
        if self.nat and self.wan is None:
            raise ValueError(f"site {self.name} has nat but no wan; give it a wan, or leave nat out")


@dataclass(frozen=True, kw_only=True)
class Topology:
    """The whole lab. `people`: a further host at each site, and a web server beside the origin."""

    origin: LinkSpec = LinkSpec()
    sites: tuple[SiteSpec, ...]
    people: bool = False

    def __post_init__(self) -> None:
        if not 1 <= len(self.sites) <= MAX_SITES:
            raise ValueError(f"there are {len(self.sites)} sites; a lab has 1 to {MAX_SITES}")
        names = [site.name for site in self.sites]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two sites are named {twice[0]}; give each its own name")
        if len(local := [site.name for site in self.sites if site.wan is None]) > 1:
            raise ValueError(f"sites {' and '.join(local)} have no wan, so they are one LAN; make them one site")
        if (hosts := sum(site.hosts for site in self.sites)) > MAX_HOSTS:
            raise ValueError(f"there are {hosts} hosts; a lab has at most {MAX_HOSTS}")


def read_rate(key: str, text: str) -> Rate:
    """The rate that `text` says, such as "100mbit". Raises ValueError that names `key`."""
    if (match := _RATE.fullmatch(text)) is None:
        raise ValueError(f'{key} is {text[:40]!r}; write a rate like "100mbit" (bit, kbit, mbit or gbit)')
    return round(float(match[1]) * _BITS[match[2]])


def read_milliseconds(key: str, text: str) -> float:
    """The time that `text` says, such as "20ms" or "1.5s". Raises ValueError that names `key`."""
    if (match := _TIME.fullmatch(text)) is None:
        raise ValueError(f'{key} is {text[:40]!r}; write a time like "20ms" (ms or s)')
    return float(match[1]) * _MILLISECONDS[match[2]]


@dataclass(frozen=True, kw_only=True)
class _LinkTable:
    """A link as people write it."""

    rate: str | None = None
    up: str | None = None
    down: str | None = None
    delay: str = "0ms"
    loss: float = 0.0
    queue: str = "50ms"

    def __post_init__(self) -> None:
        if self.rate is not None and (self.up is not None or self.down is not None):
            raise ValueError("rate is for both directions; leave it out, or up and down")
        self.spec()  # now, so that its errors name this link

    def spec(self) -> LinkSpec:
        up, down = (self.up, self.down) if self.rate is None else (self.rate, self.rate)
        return LinkSpec(
            up=None if up is None else read_rate("up" if self.rate is None else "rate", up),
            down=None if down is None else read_rate("down", down),
            delay_ms=read_milliseconds("delay", self.delay),
            loss=self.loss,
            queue_ms=read_milliseconds("queue", self.queue),
        )


@dataclass(frozen=True, kw_only=True)
class _SiteTable:
    """A site as people write it."""

    name: str
    hosts: int
    lan: _LinkTable = _LinkTable()
    wan: _LinkTable | None = None
    nat: bool = False
    ipv6: bool = False

    def __post_init__(self) -> None:
        self.spec()  # now, so that its errors name this site

    def spec(self) -> SiteSpec:
        wan = None if self.wan is None else self.wan.spec()
        return SiteSpec(name=self.name, hosts=self.hosts, lan=self.lan.spec(), wan=wan, nat=self.nat, ipv6=self.ipv6)


@dataclass(frozen=True, kw_only=True)
class _TopologyTable:
    """The file."""

    sites: tuple[_SiteTable, ...]
    origin: _LinkTable = _LinkTable()
    people: bool = False

    def __post_init__(self) -> None:
        self.spec()

    def spec(self) -> Topology:
        return Topology(origin=self.origin.spec(), sites=tuple(site.spec() for site in self.sites), people=self.people)


def load_topology(path: Path) -> Topology:
    """Read a topology. Raises BadInput that names the file, the key and what would be right."""
    return load_config(_TopologyTable, path).spec()
