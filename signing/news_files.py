# SPDX-License-Identifier: Apache-2.0
"""Writes the news about an edition beside its metadata: see `signing.edition_news`."""

import re
from collections.abc import Iterator, Mapping

from signing.durable_file import read_at_most, replace_whole
from signing.edition_news import News, encode_news, news_name
from signing.file_tree import remove_files
from signing.repository_files import MAX_METADATA_BYTES, RepositoryFiles

MOST_METADATA_BYTES = 262_144  # what is larger is worth a question, which clients that have it do not ask
MOST_TARGET_BYTES = 65_536  # every endpoint gets them, also those of other sites and segments
KEPT = 4  # whoever was told of an edition asks at once

_NAME = re.compile(r"([1-9][0-9]{0,15})\.news\.json")


def write_news(files: RepositoryFiles, known: Mapping[str, int]) -> dict[str, int]:
    """Write the news about the published edition, for clients with the versions `known` of the roles that sign targets.

    Returns the versions of the edition. A role that is not in `known` counts as unchanged. The caller holds the
    repository's lock. Raises BadInput, ContentMismatch and OSError.
    """
    timestamp = files.timestamp().signed
    snapshot = timestamp.snapshot_meta.version
    meta = files.snapshot(snapshot).signed.meta
    versions = {name.removesuffix(".json"): file.version for name, file in meta.items()}
    changed = {role: (known.get(role, version), version) for role, version in versions.items()}
    changed = {role: pair for role, pair in changed.items() if pair[0] != pair[1]}
    metadata = {"timestamp.json": read_at_most(files.metadata / "timestamp.json", MAX_METADATA_BYTES)}
    left = MOST_METADATA_BYTES
    for role, version in {"snapshot": snapshot, **{role: now for role, (_, now) in changed.items()}}.items():
        path = files.path_of(role, version)
        data = read_at_most(path, MAX_METADATA_BYTES)
        if len(data) <= left:
            left -= len(data)
            metadata[path.name] = data
    news = News(root=files.newest_version("root"), metadata=metadata, targets=dict(_new_targets(files, changed)))
    replace_whole(files.metadata / news_name(timestamp.version), encode_news(news))
    _remove_old(files, timestamp.version)
    return versions


def _new_targets(files: RepositoryFiles, changed: Mapping[str, tuple[int, int]]) -> Iterator[tuple[str, bytes]]:
    """Of each role all that are new, or none of them: releases before schedules, which concern one site each."""
    left = MOST_TARGET_BYTES
    for role, (before, now) in sorted(changed.items(), key=lambda item: item[0] == "schedules"):
        try:
            known = files.role(role, before).signed.targets
        except FileNotFoundError:
            continue  # pruned
        targets = files.role(role, now).signed.targets
        found = [target for path, target in targets.items() if target != known.get(path)]
        size = sum(target.length for target in found)
        if size <= left:
            left -= size
            yield from ((target.get_prefixed_paths()[0], files.read_target(target)) for target in found)


def _remove_old(files: RepositoryFiles, newest: int) -> None:
    found = ((_NAME.fullmatch(path.name), path) for path in files.metadata.glob("*.news.json"))
    remove_files([path for matched, path in found if matched is None or int(matched[1]) <= newest - KEPT])
