# SPDX-License-Identifier: Apache-2.0
"""What is installed, and how far an installation has come: one durable record per product.

A record is written before what it says is acted upon, so that after an interruption it tells what to resume or undo:

    idle         nothing is under way
    installing   the candidate is being copied and unpacked, nobody sees it yet      -> undo; a candidate that it
                 was to replace is `abandoned`, and in use until then                   is on probation as before
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
    oldest_fallback: int = 0  # counter below which nothing can cope with what this one, and those it replaced, left

    def __post_init__(self) -> None:
        check_version("version", self.version)
        check_range("release_counter", self.release_counter, 1, MAX_COUNTER)
        check_sha256("manifest_sha256", self.manifest_sha256)
        check_range("installed_at", self.installed_at, 0, MAX_COUNTER)
        check_name("slot", self.slot)
        check_range("oldest_fallback", self.oldest_fallback, 0, MAX_COUNTER)


@dataclass(frozen=True, kw_only=True)
class ProductRecord:
    """The committed release, the one to fall back to from it, and the candidate that has yet to prove itself."""

    product: str
    installer: str  # entry point in the group `p2pd.installers`
    phase: Phase = Phase.IDLE
    committed: Release | None = None
    fallback: Release | None = None
    candidate: Release | None = None
    abandoned: Release | None = None  # a candidate that never proved itself, in use while another one is brought in

    def __post_init__(self) -> None:
        check_product("product", self.product)
        check_name("installer", self.installer)
        if (self.phase is Phase.IDLE) != (self.candidate is None):
            raise ValueError(f"phase {self.phase.value!r} with{'out' if self.candidate is None else ''} a candidate")
        if self.abandoned is not None and self.phase is not Phase.INSTALLING:
            raise ValueError(f"phase {self.phase.value!r} with an abandoned candidate")

    @property
    def active(self) -> Release | None:
        """The release that is in use: a candidate from the start of its probation until it is rolled back."""
        if self.phase is Phase.INSTALLING and self.abandoned is not None:
            return self.abandoned
        return self.candidate if self.phase in (Phase.PROBATION, Phase.ROLLING_BACK) else self.committed

    @property
    def previous(self) -> Release | None:
        """The release that a rollback of `active` restores, unless it is recalled."""
        return self.fallback if self.active is self.committed else self.committed

    @property
    def fallbacks(self) -> tuple[Release, ...]:
        """What `active` may be left for, the nearest first: `previous`, then what it can go back to beyond that."""
        active, previous = self.active, self.previous
        if active is None or previous is None:
            return ()
        further = self.fallback
        if further is None or further is previous or further.release_counter < active.oldest_fallback:
            return (previous,)
        return (previous, further)

    @property
    def retained(self) -> tuple[Release, ...]:
        """Every release that must stay on disk."""
        return tuple(r for r in (self.committed, self.fallback, self.candidate, self.abandoned) if r is not None)

    def installing(self, candidate: Release, installer: str) -> "ProductRecord":
        """From idle, or from probation, which the candidate so far then leaves: `candidate` is about to be copied."""
        return replace(self, installer=installer, phase=Phase.INSTALLING, candidate=candidate, abandoned=self.candidate)

    def on_probation(self) -> "ProductRecord":
        """From installing, or from a rollback that failed: the candidate is to be in use."""
        return replace(self, phase=Phase.PROBATION, abandoned=None)

    def undone(self) -> "ProductRecord":
        """From installing or rolling back: the candidate is gone, and one that it was to replace is back."""
        phase = Phase.IDLE if self.abandoned is None else Phase.PROBATION
        return replace(self, phase=phase, candidate=self.abandoned, abandoned=None)

    def with_committed_candidate(self) -> "ProductRecord":
        """From probation: the candidate has proved itself; what it replaced becomes its fallback."""
        return replace(self, phase=Phase.IDLE, committed=self.candidate, fallback=self.committed, candidate=None)

    def rolling_back(self, target: Release | None) -> "ProductRecord":
        """From probation, a committed release, or a rollback that was cut: `target`, verified, is to be in use again.

        It is one of `fallbacks`, perhaps unpacked afresh. What lies between it and the active one is forgotten.
        """
        is_nearest = target is not None and self.active is not self.committed and _same(target, self.committed)
        fallback = self.fallback if is_nearest else None
        return replace(self, phase=Phase.ROLLING_BACK, candidate=self.active, committed=target, fallback=fallback)


def _same(one: Release, other: Release | None) -> bool:
    return other is not None and one.manifest_sha256 == other.manifest_sha256


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
