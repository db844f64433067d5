# SPDX-License-Identifier: Apache-2.0
"""What the services of one agent share: newest values only, each set by one service and read by the others."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from p2pd.decisions.eligibility import Refusal
from p2pd.host.latest import Latest
from p2pd.ports import Endpoint
from p2pd.ports_control import Trusted


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who this endpoint is."""

    device: str
    segment: str
    site: str


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A recognised endpoint of this site, as it announced itself last. `seen_at` is in trio's clock."""

    device: str
    endpoint: Endpoint
    mirror: Endpoint | None
    info_hashes: frozenset[str]
    has_other_state: bool
    tags: frozenset[bytes]
    seen_at: float = field(compare=False)


@dataclass(frozen=True, kw_only=True)
class Why:
    """Where one release stands here, for people: a state, or the reason why nothing happens."""

    product: str
    version: str
    state: str
    refusal: Refusal | None = None


@dataclass
class Board:
    """The shared values. `trusted` is set by metadata, `peers` by discovery, the rest by the release services."""

    trusted: Latest[Trusted | None] = field(default_factory=lambda: Latest[Trusted | None](None))
    metadata_problem: Latest[Refusal | None] = field(default_factory=lambda: Latest[Refusal | None](None))
    installer_problem: Latest[Refusal | None] = field(default_factory=lambda: Latest[Refusal | None](None))
    peers: Latest[Mapping[str, Peer]] = field(default_factory=lambda: Latest[Mapping[str, Peer]]({}))
    carried: Latest[frozenset[str]] = field(default_factory=lambda: Latest[frozenset[str]](frozenset()))
    why: Latest[Mapping[str, Why]] = field(default_factory=lambda: Latest[Mapping[str, Why]]({}))
