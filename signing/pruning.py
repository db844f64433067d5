# SPDX-License-Identifier: Apache-2.0
"""Which published files may go: those that no client, not even one in the middle of a refresh, can still ask for.

Roots stay for ever: a client that slept for years walks through all of them.
"""

from datetime import datetime, timedelta
from pathlib import Path

from signing.file_tree import files_below, remove_empty_directories, remove_files, remove_unfinished
from signing.repository_files import RepositoryFiles
from signing.roles import ROLES

# A client reads a timestamp first and the last target file of that edition seconds, or on a slow line minutes, later.
GRACE = timedelta(hours=1)
# Whatever their age: an edition that never was announced (a crash) makes its predecessor look superseded too early.
ALWAYS_KEPT = 4
# At most, so that a coordinator which publishes every second does not keep an hour of them.
MOST_KEPT = 256
# Looking through all that is kept costs more than writing an edition, so it waits until this many are superfluous.
BATCH = 32


def prune(files: RepositoryFiles, *, now: datetime, at_least: int = 1) -> None:
    """Remove superseded editions, once `at_least` of them are superfluous. The caller holds the repository's lock.

    May be killed at any instant: the next call removes the rest.
    """
    timestamp = files.timestamp().signed
    current = timestamp.snapshot_meta.version
    versions = files.versions()
    superseded = [version for version in versions["snapshot"] if version < current]
    superfluous = _superfluous(files, [*superseded, current], now)
    if len(superfluous) < at_least:
        return
    kept_snapshots = [version for version in versions["snapshot"] if version not in superfluous]
    needed = {files.path_of("snapshot", version) for version in kept_snapshots}
    for version in kept_snapshots:
        for name, meta in files.snapshot(version).signed.meta.items():
            needed.add(files.path_of(name.removesuffix(".json"), meta.version))
    newest = files.snapshot(current).signed.meta
    for role, role_versions in versions.items():
        if ROLES[role].signs_targets:
            # Versions that a crash kept from being published: what holds the number must not be written again.
            reserved = [version for version in role_versions if version > newest[f"{role}.json"].version]
            needed |= {files.path_of(role, version) for version in reserved}
    needed |= {files.path_of("root", version) for version in versions["root"]}
    needed |= {files.path_of("timestamp", version) for version in versions["timestamp"] if version > timestamp.version}
    on_disk = {files.path_of(role, version) for role, of_role in versions.items() for version in of_role}
    _remove_targets(files, needed & on_disk)
    remove_files(on_disk - needed)


def _superfluous(files: RepositoryFiles, snapshots: list[int], now: datetime) -> set[int]:
    """Of ascending versions, the last of them current, those that were superseded more than GRACE ago."""
    superseded = snapshots[:-1]
    oldest_kept = len(superseded)
    while oldest_kept and len(superseded) - oldest_kept < MOST_KEPT:
        successor = files.snapshot(snapshots[oldest_kept]).signed
        issued = successor.expires - ROLES["snapshot"].lifetime
        if len(superseded) - oldest_kept >= ALWAYS_KEPT and issued < now - GRACE:
            break
        oldest_kept -= 1
    return set(superseded[:oldest_kept])


def _remove_targets(files: RepositoryFiles, metadata: set[Path]) -> None:
    needed = set()
    for path in metadata:
        version, role, _ = path.name.split(".")
        if ROLES[role].signs_targets:
            targets = files.role(role, int(version)).signed.targets
            needed |= {files.target_file(target) for target in targets.values()}
    remove_unfinished(files.targets)
    remove_files(files_below(files.targets) - needed)
    remove_empty_directories(files.targets)
