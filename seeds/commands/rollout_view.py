# SPDX-License-Identifier: Apache-2.0
"""Rollouts as `p2pctl status` and `p2pctl rollout list` show them: no device waits or fails without a reason."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from seeds.adapters.transaction import Transaction
from seeds.decisions.evidence import Standing, tally
from seeds.decisions.fleet_step import newest_of_each
from seeds.decisions.rings import reachable
from seeds.records import Device, Rollout, RolloutState, Said


def read_rollouts(transaction: Transaction) -> list[dict[str, Any]]:
    """All rollouts for JSON and for `rollout_table`, by product and release counter.

    `devices` counts the latest reports by state. Of each product's newest release that was not withdrawn, the
    standings are counted by reason as well: nobody waits for the devices that an older one has not reached.
    """
    rollouts, devices = transaction.rollouts(), transaction.devices()
    said = transaction.said([rollout.manifest_sha256 for rollout in rollouts])
    current = newest_of_each(rollout for rollout in rollouts if rollout.state is not RolloutState.WITHDRAWN)
    awaited = {rollout.manifest_sha256 for rollout in current.values()}
    return [
        _describe(rollout, said[rollout.manifest_sha256], devices if rollout.manifest_sha256 in awaited else ())
        for rollout in rollouts
    ]


def _describe(rollout: Rollout, said: Mapping[str, Said], devices: Iterable[Device]) -> dict[str, Any]:
    standings = tally(reachable(rollout, devices), said)
    return {
        "product": rollout.product,
        "version": rollout.version,
        "release_counter": rollout.release_counter,
        "manifest_sha256": rollout.manifest_sha256,
        "state": rollout.state.value,
        "open_rings": rollout.open_rings,
        "reason": rollout.reason.value if rollout.reason else None,
        "sentence": rollout.sentence,
        "devices": dict(Counter(words.state.value for words in said.values())),
        "standings": {place.value: dict(sorted(words.items())) for place, words in standings.items() if words},
    }


def rollout_table(rollouts: Sequence[Mapping[str, Any]]) -> RenderableType:
    """One row a rollout, for people."""
    if not rollouts:
        return "no rollouts yet: p2pctl patch build NAME VERSION SOURCE"
    table = Table("product", "version", "rollout", "rings open", "devices", "reason", title="Rollouts")
    for rollout in rollouts:
        table.add_row(
            rollout["product"],
            rollout["version"],
            rollout["state"],
            str(rollout["open_rings"]),
            _devices(rollout),
            escape(rollout["sentence"] or rollout["reason"] or ""),
        )
    return table


def _devices(rollout: Mapping[str, Any]) -> str:
    lines: list[str] = []
    for place in Standing:
        words = rollout["standings"].get(place, {})
        if words:
            told = ", ".join(f"{word} {count}" for word, count in words.items())
            lines.append(f"{sum(words.values())} {place}" + ("" if place is Standing.COMMITTED else f": {told}"))
    counts = (f"{count} {state}" for state, count in sorted(rollout["devices"].items()))
    return "\n".join(lines) or ", ".join(counts) or "-"
