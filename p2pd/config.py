# SPDX-License-Identifier: Apache-2.0
"""What `p2pd.toml` may say: parsed once, frozen, each service gets only its part."""

from dataclasses import dataclass
from pathlib import Path

from p2pd.decisions.ambassadors import Timing
from signing.bounds import MAX_COUNTER, check_count, check_range
from signing.budgets import NO_BUDGETS, Budgets, NetworkGates

DEFAULT_CONFIG = Path("/etc/p2pd/p2pd.toml")


@dataclass(frozen=True, kw_only=True)
class SwarmConfig:
    """LAN limits, 0 = unlimited, and patience in seconds."""

    connections: int = 200
    upload_bytes_per_second: int = 0
    download_bytes_per_second: int = 0
    settle_seconds: float = Timing.settle
    stall_seconds: float = Timing.stall

    def __post_init__(self) -> None:
        check_range("connections", self.connections, 2, 10_000)
        check_range("upload_bytes_per_second", self.upload_bytes_per_second, 0, MAX_COUNTER)
        check_range("download_bytes_per_second", self.download_bytes_per_second, 0, MAX_COUNTER)
        check_range("settle_seconds", self.settle_seconds, 0.1, 60)
        check_range("stall_seconds", self.stall_seconds, 1, 3_600)


@dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """Paths are absolute. `interfaces` are interface names or numeric addresses; nothing else is ever bound."""

    interfaces: tuple[str, ...]
    state_dir: str = "/var/lib/p2pd"
    initial_root: str = "/etc/p2pd/root.json"
    control_socket: str = "/run/p2pd/p2pd.sock"
    installer_socket: str = "/run/p2pd-install/p2pd-install.sock"
    torrent_port: int = 7681
    mirror_port: int = 7682
    metrics_host: str = "127.0.0.1"
    metrics_port: int = 9465
    web_mirror: str = ""  # https:// address of a static copy of the origin's payloads, asked instead of the coordinator
    log_level: str = "info"
    log_json: bool = True
    swarm: SwarmConfig = SwarmConfig()
    budgets: Budgets = NO_BUDGETS
    network: NetworkGates | None = None

    def __post_init__(self) -> None:
        check_count("interfaces", self.interfaces, 32, least=1)
        for field in ("state_dir", "initial_root", "control_socket", "installer_socket"):
            if not Path(getattr(self, field)).is_absolute():
                raise ValueError(f"{field} {getattr(self, field)!r} must be an absolute path")
        for field in ("torrent_port", "mirror_port"):
            check_range(field, getattr(self, field), 1, 65_535)
        check_range("metrics_port", self.metrics_port, 0, 65_535)
        if self.web_mirror and not self.web_mirror.startswith("https://"):
            raise ValueError(f"web_mirror {self.web_mirror!r} must start with https://")
