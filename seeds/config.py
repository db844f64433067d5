# SPDX-License-Identifier: Apache-2.0
"""The coordinator's configuration: `fleet.toml`, read once into a frozen value.

Relative paths are relative to the directory of the file.
"""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from p2pd.host.config_file import load_config
from signing.bounds import MAX_SECONDS, check_count, check_name, check_range, check_unique
from signing.roles import role_named


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where to listen; port 0 lets the kernel choose."""

    host: str
    port: int

    def __post_init__(self) -> None:
        check_count("host", self.host, 253, least=1)
        check_range("port", self.port, 0, 65_535)


@dataclass(frozen=True, kw_only=True)
class RoleKeys:
    """Where the private keys of a role are: `encrypted-file:` paths, or any URI that securesystemslib knows."""

    role: str
    uris: tuple[str, ...]

    def __post_init__(self) -> None:
        role_named(self.role)
        check_count("uris", self.uris, 32, least=1)
        check_unique("uris", self.uris)


@dataclass(frozen=True, kw_only=True)
class CoordinatorConfig:
    """Everything that an operator may set. Seconds and days are real time."""

    public: tuple[Address, ...]
    agent: tuple[Address, ...]
    metrics: tuple[Address, ...] = (Address(host="127.0.0.1", port=9464),)
    public_url: str
    agent_url: str
    segments: tuple[str, ...]
    keys: tuple[RoleKeys, ...]
    repository: Path = Path("repository")
    payloads: Path = Path("payloads")
    database: Path = Path("state/coordinator.sqlite")
    control_socket: Path = Path("run/control.sock")
    certificate_days: float = 30.0
    renewal_grace_days: float = 90.0
    recheck_seconds: float = 30.0
    drain_seconds: float = 10.0
    max_long_polls: int = 10_000
    enrolments_per_second: float = 1.0  # of one source address, once `enrolment_burst` is spent
    enrolment_burst: int = 30

    def __post_init__(self) -> None:
        for field in ("public", "agent", "metrics"):
            check_count(field, getattr(self, field), 16, least=0 if field == "metrics" else 1)
        for field in ("public_url", "agent_url"):
            _check_url(field, getattr(self, field))
        check_count("segments", self.segments, 64, least=1)
        check_unique("segments", self.segments)
        for segment in self.segments:
            check_name("segment", segment)
        check_unique("keys", tuple(keys.role for keys in self.keys))
        check_range("certificate_days", self.certificate_days, 1 / 1440, 825)
        check_range("renewal_grace_days", self.renewal_grace_days, 0, 3_650)
        check_range("recheck_seconds", self.recheck_seconds, 0.1, 3_600)
        check_range("drain_seconds", self.drain_seconds, 0, MAX_SECONDS)
        check_range("max_long_polls", self.max_long_polls, 1, 1_000_000)
        check_range("enrolments_per_second", self.enrolments_per_second, 0.001, 10_000)
        check_range("enrolment_burst", self.enrolment_burst, 1, 100_000)

    def uris_of(self, role: str) -> tuple[str, ...]:
        """Where the keys of `role` are; empty when the file does not say."""
        return next((keys.uris for keys in self.keys if keys.role == role), ())


def load_fleet_config(path: Path) -> CoordinatorConfig:
    """Read `fleet.toml`. Raises BadInput that names the file, the key and what to do."""
    return load_config(CoordinatorConfig, path)


def _check_url(field: str, value: str) -> None:
    try:
        parts = urlsplit(value)
        is_good = parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good or len(value) > 2_000:
        raise ValueError(f"{field} {value!r} must be an https:// address")
