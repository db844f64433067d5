# SPDX-License-Identifier: Apache-2.0
"""What is installed, and how far an installation has come: one durable record per product.

A record is written before what it says is acted upon, so that after an interruption it tells what to resume or undo:

    idle         nothing is under way
    installing   the candidate is being copied and unpacked, nobody sees it yet      -> undo
    probation    the candidate is complete and verified, and `current` is to be it   -> resume
    rolling_back the candidate is to go, the committed release is to be `current`     -> resume, verified again
"""

import json
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from p2pd.host.atomic_file import read_bounded
from p2pd.installer.disk import Disk, remove_leftovers, replace_file
from signing.bounds import MAX_COUNTER, check_name, check_product, check_range, check_sha256, check_version
from signing.errors import BadInput
from signing.structure import build, flatten

MAX_RECORD_BYTES = 65_536


class Phase(StrEnum):
    """Where a product stands; wire values of the `status` verb too."""

    IDLE = "idle"
    INSTALLING = "installing"
    PROBATION = "probation"
    ROLLING_BACK = "rolling_back"


@dataclass(frozen=True, kw_only=True)
class Release:
    """One release on this disk. `manifest_sha256` vouches for the stored manifest, and that for all the rest."""

    version: str
    release_counter: int
    manifest_sha256: str
    installed_at: int  # Unix seconds
    slot: str  # the installer's name for where it is unpacked

    def __post_init__(self) -> None:
        check_version("version", self.version)
        check_range("release_counter", self.release_counter, 1, MAX_COUNTER)
        check_sha256("manifest_sha256", self.manifest_sha256)
        check_range("installed_at", self.installed_at, 0, MAX_COUNTER)
        check_name("slot", self.slot)


@dataclass(frozen=True, kw_only=True)
class ProductRecord:
    """The committed release, the one to fall back to from it, and the candidate that has yet to prove itself."""

    product: str
    installer: str  # entry point in the group `p2pd.installers`
    phase: Phase = Phase.IDLE
    committed: Release | None = None
    fallback: Release | None = None
    candidate: Release | None = None

    def __post_init__(self) -> None:
        check_product("product", self.product)
        check_name("installer", self.installer)
        if (self.phase is Phase.IDLE) != (self.candidate is None):
            raise ValueError(f"phase {self.phase.value!r} with{'out' if self.candidate is None else ''} a candidate")

    @property
    def active(self) -> Release | None:
        """The release that is in use: a candidate from the start of its probation until it is rolled back."""
        return self.candidate if self.phase in (Phase.PROBATION, Phase.ROLLING_BACK) else self.committed

    @property
    def previous(self) -> Release | None:
        """The release that a rollback of `active` restores."""
        return self.committed if self.phase in (Phase.PROBATION, Phase.ROLLING_BACK) else self.fallback

    @property
    def retained(self) -> tuple[Release, ...]:
        """Every release that must stay on disk."""
        return tuple(r for r in (self.committed, self.fallback, self.candidate) if r is not None)

    def installing(self, candidate: Release, installer: str) -> "ProductRecord":
        """From idle: `candidate` is about to be copied and unpacked."""
        return replace(self, installer=installer, phase=Phase.INSTALLING, candidate=candidate)

    def on_probation(self) -> "ProductRecord":
        """From installing, or from a rollback that failed: the candidate is to be in use."""
        return replace(self, phase=Phase.PROBATION)

    def undone(self) -> "ProductRecord":
        """From installing or rolling back: the candidate is gone."""
        return replace(self, phase=Phase.IDLE, candidate=None)

    def with_committed_candidate(self) -> "ProductRecord":
        """From probation: the candidate has proved itself; what it replaced becomes its fallback."""
        return replace(self, phase=Phase.IDLE, committed=self.candidate, fallback=self.committed, candidate=None)

    def rolling_back(self, target: Release | None) -> "ProductRecord":
        """From probation, or from a committed release: `target`, verified, is to be in use again."""
        fallback = self.fallback if self.phase is Phase.PROBATION else None
        return replace(self, phase=Phase.ROLLING_BACK, candidate=self.active, committed=target, fallback=fallback)


class Journal:
    """The records of all products, in one directory. Only one process may hold it."""

    def __init__(self, directory: Path, disk: Disk) -> None:
        self._directory = directory
        self._disk = disk

    def recover(self) -> None:
        """Remove what an interrupted write left. Comes before anything else."""
        remove_leftovers(self._disk, self._directory)

    def products(self) -> tuple[str, ...]:
        """Names of all products that have a record."""
        names = (path.name for path in self._directory.glob("*.json"))
        return tuple(sorted(name.removesuffix(".json") for name in names if not name.startswith(".")))

    def read(self, product: str) -> ProductRecord | None:
        """The record of `product`, or None if it never had one. Raises BadInput if the disk damaged it."""
        path = self._path(product)
        try:
            data = read_bounded(path, MAX_RECORD_BYTES)
        except FileNotFoundError:
            return None
        try:
            record = build(ProductRecord, json.loads(data), where=str(path))
        except (ValueError, RecursionError) as problem:
            raise BadInput(str(path), f"is damaged ({problem})", "restore it from a backup") from None
        if record.product != product:
            raise BadInput(str(path), f"is the record of {record.product!r}", "restore it from a backup")
        return record

    def write(self, record: ProductRecord) -> None:
        """Make `record` durable; an interruption leaves the old record or this one."""
        data = json.dumps(flatten(record), indent=1).encode()
        replace_file(self._disk, self._path(record.product), data)

    def _path(self, product: str) -> Path:
        check_product("product", product)
        return self._directory / f"{product}.json"
