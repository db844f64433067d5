# SPDX-License-Identifier: Apache-2.0
"""What `p2pd-install.toml` may say."""

from dataclasses import dataclass
from pathlib import Path

from signing.bounds import check_count, check_range

MAX_UID = 2**32 - 2  # the last one means "no user"


@dataclass(frozen=True, kw_only=True)
class InstallerConfig:
    """Paths are absolute, for a daemon's working directory means nothing."""

    state_dir: str  # ours alone: trust state, journal, kept releases
    install_root: str  # `products/NAME/current` below it is what is in use
    socket: str  # where requests are taken
    initial_root: str  # the repository's first root.json: the only thing that is believed without a proof
    allowed_uids: tuple[int, ...] = ()  # users besides root and our own who may ask: p2pd's
    log_level: str = "info"

    def __post_init__(self) -> None:
        for field in ("state_dir", "install_root", "socket", "initial_root"):
            if not Path(getattr(self, field)).is_absolute():
                raise ValueError(f"{field} {getattr(self, field)!r} must be an absolute path")
        check_count("allowed_uids", self.allowed_uids, 64)
        for uid in self.allowed_uids:
            check_range("allowed_uids item", uid, 0, MAX_UID)
