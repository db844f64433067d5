# SPDX-License-Identifier: Apache-2.0
"""The demo's facts, for a machine and for people."""

from typing import Any

from rich.table import Table

from seeds.demo.screen import in_bytes
from seeds.demo.story import Told
from signing.report import InstallState


def facts_of(told: Told) -> dict[str, Any]:
    """What `p2pctl demo --json` prints: transfer figures are the update's, versions and states the final ones."""
    return {
        "package": told.software.package,
        "releases": [told.software.first.version, told.software.second.version, told.software.broken_version],
        "agents": [
            {
                "agent": final.name,
                "version": final.installed,
                "state": final.state,
                "reason": final.reason,
                "bytes_lan": update.bytes_lan,
                "bytes_origin": update.bytes_origin,
                "seconds": update.seconds,
            }
            for update, final in zip(told.update, told.final, strict=True)
        ],
        "halted": told.halted_with == "error_gate",
        "rolled_back": told.restored and told.final[0].state == InstallState.ROLLED_BACK,
        "origin_copies": round(told.update_copies, 3),
        "seconds": round(told.seconds, 1),
    }


def all_went_well(facts: dict[str, Any]) -> bool:
    """Every agent ends on the good release, the canary by rolling back, and the rollout halted."""
    good = facts["releases"][1]
    return bool(facts["halted"] and facts["rolled_back"] and all(agent["version"] == good for agent in facts["agents"]))


def summary_table(facts: dict[str, Any]) -> Table:
    """One line per agent."""
    first, second, broken = facts["releases"]
    title = f"{facts['package']}: {first} → {second}, and {broken} turned away"
    table = Table("agent", "runs", "update from LAN", "from origin", "seconds", "last release", title=title)
    for agent in facts["agents"]:
        last = agent["state"] + (f": {agent['reason']}" if agent["reason"] else "")
        table.add_row(
            agent["agent"],
            agent["version"],
            in_bytes(agent["bytes_lan"]),
            in_bytes(agent["bytes_origin"]),
            f"{agent['seconds']:.0f}",
            last,
        )
    return table
