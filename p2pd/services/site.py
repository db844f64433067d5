# SPDX-License-Identifier: Apache-2.0
"""What the services of one agent share: newest values only, each set by one service and read by the others."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from p2pd.decisions.eligibility import Refusal
from p2pd.decisions.network_gates import Passage
from p2pd.host.latest import Latest, LatestEntries
from p2pd.ports import Endpoint
from p2pd.ports_control import Trusted
from p2pd.ports_network import Whereabouts
from signing.reasons import Reason


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who this endpoint is."""

    device: str
    segment: str
    site: str


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A recognised endpoint of this site, as it announced itself last. `seen_at` is in trio's clock.

    It is one peer, however many links it shares with us: `endpoint` is where to dial it, and `endpoints` has all places
    in the order in which to try them, that one first. Dial one at a time: of two connections one end hangs up, and
    libtorrent dials again. By default there is no other place.
    """

    device: str
    endpoint: Endpoint
    endpoints: tuple[Endpoint, ...] = ()
    mirror: Endpoint | None
    info_hashes: frozenset[str]
    whole: frozenset[str] = frozenset()  # those of `info_hashes` that it has all pieces of
    has_other_state: bool
    tags: frozenset[bytes]
    seen_at: float = field(compare=False)
    is_aside: bool = False  # it says that it brings the site nothing from the origin now

    def __post_init__(self) -> None:
        if not self.endpoints:
            object.__setattr__(self, "endpoints", (self.endpoint,))


@dataclass(frozen=True, kw_only=True)
class Link:
    """One peer of one torrent. `reason`: why there is no connection; or, with one, what is held against the peer."""

    is_connected: bool
    reason: Reason | None = None  # None without a connection: it is being dialled, or dials
    until: float | None = None  # when the reason is over, in trio's clock
    latency: float | None = None  # seconds
    bytes_in: int = 0
    bytes_out: int = 0


@dataclass(frozen=True, kw_only=True)
class Why:
    """Where one release stands here, for people: a state, or the reason why nothing happens."""

    product: str
    version: str
    state: str
    refusal: Refusal | None = None


@dataclass
class Board:
    """The shared values.

    `here` and `network_problem` are set by addresses, `trusted` by metadata, `peers` by discovery, `passage` by
    limiting, `origin_round_trip` by whoever makes the agent, the rest by the release services.
    """

    here: Latest[Whereabouts] = field(default_factory=lambda: Latest(Whereabouts()))
    network_problem: Latest[Refusal | None] = field(default_factory=lambda: Latest[Refusal | None](None))
    trusted: Latest[Trusted | None] = field(default_factory=lambda: Latest[Trusted | None](None))
    metadata_problem: Latest[Refusal | None] = field(default_factory=lambda: Latest[Refusal | None](None))
    installer_problem: Latest[Refusal | None] = field(default_factory=lambda: Latest[Refusal | None](None))
    peers: Latest[Mapping[str, Peer]] = field(default_factory=lambda: Latest[Mapping[str, Peer]]({}))
    listening_since: Latest[float] = field(default_factory=lambda: Latest(math.inf))  # to the LAN, by trio's clock
    passage: Latest[Passage] = field(default_factory=lambda: Latest(Passage()))  # by the network and power of now
    fetching: dict[str, frozenset[str]] = field(default_factory=dict)  # who may fetch from the origin, by payload
    wan_link: Latest[float] = field(default_factory=lambda: Latest(0.0))  # bytes/s that the site was seen to get
    origin_round_trip: Callable[[], float | None] = lambda: None  # seconds; asks the pacer of downloads
    doubt: Callable[[str], None] = lambda _: None  # asks on the LAN whether a device is still there; set by discovery
    carried: Latest[frozenset[str]] = field(default_factory=lambda: Latest[frozenset[str]](frozenset()))
    complete: Latest[frozenset[str]] = field(default_factory=lambda: Latest[frozenset[str]](frozenset()))
    links: Latest[Mapping[str, Mapping[str, Link]]] = field(  # by info-hash and device
        default_factory=lambda: Latest[Mapping[str, Mapping[str, Link]]]({})
    )
    latency: dict[str, float] = field(default_factory=dict)  # seconds to each device that was ever measured
    why: LatestEntries[str, Why] = field(default_factory=LatestEntries[str, Why])
    installer_waiters: int = 0  # how many wait for p2pd-install to come back
