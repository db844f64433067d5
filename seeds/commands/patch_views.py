# SPDX-License-Identifier: Apache-2.0
"""What `p2pctl patch list` and `show` print."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from p2pd.host.byte_counts import in_bytes
from signing.codec import decode
from signing.manifest import Manifest
from signing.recall import RECALL_TARGET, RecallList
from signing.repository import Repository
from signing.structure import flatten


def describe(manifest: Manifest, *, state: str) -> dict[str, Any]:
    """A release's facts for JSON and for `show_manifest`."""
    return {"state": state, **flatten(manifest)}


def list_releases(repository: Repository) -> list[dict[str, Any]]:
    """Every release that is published, withdrawn, or waits for signatures, by product and counter."""
    recalled = _recalled(repository)
    found = [
        describe(manifest, state="withdrawn" if (manifest.product, manifest.version) in recalled else "published")
        for manifest in _manifests(repository, "published")
    ]
    known = {(release["product"], release["version"]) for release in found}
    for pending in repository.pending():
        if pending.role == "patches":
            have, need = pending.signatures
            found += [
                describe(manifest, state=f"{have} of {need} signatures")
                for manifest in _manifests(repository, "pending")
                if (manifest.product, manifest.version) not in known
            ]
    return sorted(found, key=lambda release: (release["product"], release["release_counter"]))


def list_for_people(console: Console, releases: Sequence[Mapping[str, Any]]) -> None:
    """One line a release."""
    if not releases:
        console.print("no releases yet: p2pctl patch build NAME VERSION SOURCE")
        return
    table = Table("product", "version", "counter", "severity", "payload", "transport", "state")
    for release in releases:
        table.add_row(
            release["product"],
            release["version"],
            str(release["release_counter"]),
            release["severity"],
            in_bytes(release["payload"]["size"]),
            in_bytes(min(transport["content"]["size"] for transport in release["transports"])),
            release["state"],
        )
    console.print(table)


def show_manifest(console: Console, facts: Mapping[str, Any]) -> None:
    """All facts of one release or torrent file, one a line."""
    table = Table(show_header=False, box=None)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _lines("", facts):
        table.add_row(name, escape(value))
    console.print(table)


def standing_releases(repository: Repository) -> list[Manifest]:
    """All releases that are published and not withdrawn."""
    recalled = _recalled(repository)
    return [m for m in _manifests(repository, "published") if (m.product, m.version) not in recalled]


def _manifests(repository: Repository, where: str) -> list[Manifest]:
    if where == "published":
        paths = [path for path in repository.target_paths("patches") if path.endswith("/manifest")]
        found = {path: repository.read_target("patches", path) for path in paths}
    else:
        waiting = next(version for version in repository.pending() if version.role == "patches")
        paths = [path for path in waiting.put if path.endswith("/manifest")]
        found = {path: repository.read_pending("patches", path) for path in paths}
    return [decode(Manifest, data, where=path) for path, data in found.items() if data is not None]


def _recalled(repository: Repository) -> set[tuple[str, str]]:
    data = repository.read_target("recalls", RECALL_TARGET)
    recalls = decode(RecallList, data, where=RECALL_TARGET).recalls if data is not None else ()
    return {(recall.product, recall.version) for recall in recalls}


def _lines(prefix: str, facts: object) -> list[tuple[str, str]]:
    if isinstance(facts, Mapping):
        return [
            line for key, value in facts.items() for line in _lines(f"{prefix}.{key}" if prefix else str(key), value)
        ]
    if isinstance(facts, list) and any(isinstance(item, Mapping) for item in facts):
        return [line for index, item in enumerate(facts) for line in _lines(f"{prefix}[{index}]", item)]
    if isinstance(facts, list):
        return [(prefix, ", ".join(map(str, facts)) or "-")]
    return [(prefix, str(facts))]
