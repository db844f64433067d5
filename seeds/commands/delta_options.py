# SPDX-License-Identifier: Apache-2.0
"""The options of `p2pctl patch build` about deltas, and what the commands print about transports."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from p2pd.host.byte_counts import in_bytes
from seeds.commands.patch_views import standing_releases
from seeds.services.deltas import DeltaOutcome, choose_bases
from signing.manifest import MAX_DELTAS, Manifest
from signing.repository import Repository

DEFAULT_BASES = 2  # what endpoints have that are up to date, or missed one release

F = TypeVar("F", bound=Callable[..., Any])


def delta_options(command: F) -> F:
    """Which earlier releases deltas are made from."""
    options = (
        click.option("--base", "bases", multiple=True, help="NAME@VERSION to build a delta from; may repeat."),
        click.option(
            "--newest-bases",
            type=click.IntRange(0, MAX_DELTAS),
            default=DEFAULT_BASES,
            show_default=True,
            help="Without --base: from how many of the newest published releases.",
        ),
        click.option("--no-delta", is_flag=True, help="Build no deltas."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def wanted_bases(repository: Repository, product: str, named: Sequence[str], *, newest: int) -> list[Manifest]:
    """The releases to build deltas from. Raises BadInput for a name that is none."""
    return choose_bases(standing_releases(repository), product, named, newest=newest)


def base_versions(repository: Repository, product: str) -> dict[str, str]:
    """Versions of the product's published releases by the SHA-256 of their payloads."""
    return {m.payload.sha256: m.version for m in standing_releases(repository) if m.product == product}


def show_outcomes(console: Console, outcomes: Sequence[DeltaOutcome]) -> None:
    """What each base gives, one a line."""
    if not outcomes:
        return
    table = Table("base", "delta", "of the full", "note")
    for outcome in outcomes:
        size = "-" if outcome.size is None else in_bytes(outcome.size)
        share = "-" if outcome.size is None else f"{outcome.size / outcome.full_size:.1%}"
        note = f"no delta: {outcome.reason}" if outcome.size is None else ""
        table.add_row(outcome.base, size, share, escape(note))
    console.print(table)


def show_transports(console: Console, facts: Mapping[str, Any]) -> None:
    """Every way for the payload to travel: its codec, its size, and what it builds upon."""
    if "transports" not in facts:
        return
    full_size = facts["transports"][0]["content"]["size"]
    table = Table("transport", "size", "of the full", "builds upon")
    for way in (*facts["transports"], *facts["deltas"]):
        size = way["content"]["size"]
        base = way.get("base")
        upon = "-" if base is None else way.get("base_version") or f"payload {base['sha256'][:12]}"
        table.add_row(way["codec"], in_bytes(size), f"{size / full_size:.1%}", escape(upon))
    console.print(table)
