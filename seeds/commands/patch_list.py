# SPDX-License-Identifier: Apache-2.0
"""`p2pctl patch list` and `show`: what there is, and what is in it."""

from pathlib import Path
from typing import Any

import click

from p2pd.host.atomic_file import read_bounded
from p2pd.host.torrent_file import MAX_TORRENT_BYTES, read_torrent
from seeds.commands.context import Session, bad_input_exits, json_option, show
from seeds.commands.delta_options import base_versions, show_transports
from seeds.commands.patch_views import describe, list_for_people, list_releases, show_manifest
from signing.codec import decode
from signing.errors import BadInput
from signing.manifest import Manifest, manifest_target
from signing.repository import Repository


@click.command("list")
@json_option
@click.pass_obj
def list_command(session: Session, *, as_json: bool) -> None:
    """List all releases: waiting for signatures, published, or withdrawn."""
    with bad_input_exits():
        releases = list_releases(session.repository())
    show(as_json, releases, lambda: list_for_people(session.console, releases))


@click.command("show")
@click.argument("name")
@click.argument("version", required=False)
@json_option
@click.pass_obj
def show_command(session: Session, name: str, version: str | None, *, as_json: bool) -> None:
    """Show a release: NAME VERSION from the fleet, or NAME alone as the path of a manifest or torrent file."""
    with bad_input_exits():
        if version is None:
            facts, versions = _read_file(Path(name)), dict[str, str]()
        else:
            facts, versions = _find(session.repository(), name, version), base_versions(session.repository(), name)
    for delta in facts.get("deltas", ()):
        delta["base_version"] = versions.get(delta["base"]["sha256"])

    def for_people() -> None:
        show_manifest(session.console, facts)
        show_transports(session.console, facts)

    show(as_json, facts, for_people)


def _find(repository: Repository, name: str, version: str) -> dict[str, Any]:
    target = manifest_target(name, version)
    data = repository.read_target("patches", target)
    state = "published"
    if data is None and any(waiting.role == "patches" for waiting in repository.pending()):
        data, state = repository.read_pending("patches", target), "unsigned"
    if data is None:
        raise BadInput(f"{name} {version}", "there is no such release", "see `p2pctl patch list`")
    return describe(decode(Manifest, data, where=target), state=state)


def _read_file(path: Path) -> dict[str, Any]:
    """A manifest or torrent file. Raises BadInput when it is neither, or damaged."""
    try:
        data = read_bounded(path, MAX_TORRENT_BYTES)
    except OSError as problem:
        raise BadInput(str(path), f"cannot be read ({problem.strerror})") from None
    if data[:1] == b"d":  # a bencoded dictionary; a manifest begins with a msgpack map
        facts = read_torrent(data, where=str(path))
        return {
            "state": "torrent file",
            "info_hash": facts.info_hash,
            "segment": facts.name,
            "size": facts.size,
            "piece_bytes": facts.piece_bytes,
            "pieces": facts.piece_count,
        }
    return describe(decode(Manifest, data, where=str(path)), state="manifest file, signature not checked")
