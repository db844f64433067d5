# SPDX-License-Identifier: Apache-2.0
"""The demo's facts, for a machine and for people."""

from typing import Any

from rich.table import Table

from p2pd.host.byte_counts import in_bytes
from seeds.demo.story import Release, Told
from seeds.demo.watching import AgentSight
from signing.report import InstallState

_SOURCES = ("bytes_lan", "bytes_origin")


def facts_of(told: Told) -> dict[str, Any]:
    """What `p2pctl demo --json` prints: versions and states are the final ones."""
    return {
        "package": told.software.package,
        "releases": [told.software.first.version, told.software.second.version, told.software.broken_version],
        "agents": [
            {
                "agent": final.name,
                "version": final.installed,
                "state": final.state,
                "reason": final.reason,
                "first": _transfer(first),
                "update": _transfer(update),
            }
            for first, update, final in zip(told.first.sights, told.update.sights, told.final, strict=True)
        ],
        "first": _release(told.first),
        "update": _release(told.update),
        "halted": told.halted_with == "error_gate",
        "rolled_back": told.restored and told.final[0].state == InstallState.ROLLED_BACK,
        "seconds": round(told.seconds, 1),
    }


def _transfer(sight: AgentSight) -> dict[str, Any]:
    return {"bytes_lan": sight.bytes_lan, "bytes_origin": sight.bytes_origin, "seconds": sight.seconds}


def _release(release: Release) -> dict[str, Any]:
    return {
        "version": release.version,
        "full_bytes": release.full_bytes,
        "delta_bytes": release.delta_bytes,
        "origin_bytes": release.origin_bytes,
        "origin_copies": round(release.origin_copies, 3),
    }


def all_went_well(facts: dict[str, Any]) -> bool:
    """Every agent ends on the good release, the canary by rolling back, and the rollout halted."""
    good = facts["releases"][1]
    return bool(facts["halted"] and facts["rolled_back"] and all(agent["version"] == good for agent in facts["agents"]))


def summary_table(facts: dict[str, Any]) -> Table:
    """One line per agent."""
    first, second, broken = facts["releases"]
    title = f"{facts['package']}: {first} → {second}, and {broken} turned away"
    table = Table("agent", "runs", f"{first}\nfrom LAN", "\norigin", f"{second}\nfrom LAN", "\norigin", "last release")
    table.title = title
    for agent in facts["agents"]:
        last = agent["state"] + (f": {agent['reason']}" if agent["reason"] else "")
        table.add_row(
            agent["agent"],
            agent["version"],
            *(in_bytes(agent[release][source]) for release in ("first", "update") for source in _SOURCES),
            last,
        )
    return table


def last_words(facts: dict[str, Any]) -> str:
    """What it comes to, in sentences."""
    first, update, agents = facts["first"], facts["update"], len(facts["agents"])
    told = f"The origin sent {first['origin_copies']:.1f} copies of the release for {agents} agents, and of its update "
    if update["delta_bytes"] is None:
        told += f"{update['origin_copies']:.1f} copies. "
    else:
        delta, full = in_bytes(update["delta_bytes"]), in_bytes(update["full_bytes"])
        told += f"{in_bytes(update['origin_bytes'])}: it travels as a delta of {delta} in the place of {full}. "
    told += "The broken release halted the rollout at the canary, which went back by itself. "
    return f"{told}All of it in {facts['seconds']:.0f} s."
