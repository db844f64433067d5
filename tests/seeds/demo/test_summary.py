# SPDX-License-Identifier: Apache-2.0
"""What the demo says in the end is what was seen: whence the bytes of both releases came, and what the origin sent."""

from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from seeds.demo.software import Software, Wheel
from seeds.demo.story import Release, Told
from seeds.demo.summary import all_went_well, facts_of, last_words, summary_table
from seeds.demo.watching import AgentSight

FULL, DELTA = 107_000, 1_817


def sight(name: str, version: str, *, lan: int = 0, origin: int = 0) -> AgentSight:
    return AgentSight(
        name=name,
        peers=1,
        installed=version,
        version=version,
        state="committed",
        reason=None,
        detail="",
        bytes_lan=lan,
        bytes_origin=origin,
        payload_bytes=FULL,
        seconds=3.0,
    )


@pytest.fixture
def told() -> Told:
    """Two agents: the canary brings each release from the origin, and hands it on."""
    first = (sight("agent-1", "1", origin=FULL), sight("agent-2", "1", lan=FULL + 16_384))
    update = (sight("agent-1", "2", origin=DELTA), sight("agent-2", "2", lan=DELTA))
    canary = replace(sight("agent-1", "2"), version="2+broken", state="rolled_back", reason="health_check_failed")
    wheel = Path("app.whl")
    return Told(
        software=Software(
            package="app",
            module="app",
            first=Wheel(path=wheel, version="1"),
            second=Wheel(path=wheel, version="2"),
            broken=Path("broken"),
            broken_version="2+broken",
        ),
        first=Release(version="1", full_bytes=FULL, delta_bytes=None, origin_bytes=FULL, sights=first),
        update=Release(version="2", full_bytes=FULL, delta_bytes=DELTA, origin_bytes=DELTA, sights=update),
        final=(canary, update[1]),
        halted_with="error_gate",
        restored=True,
        seconds=42.0,
    )


def test_each_agent_shows_whence_both_releases_came(told: Told) -> None:
    canary, other = facts_of(told)["agents"]
    assert (canary["first"]["bytes_origin"], canary["update"]["bytes_origin"]) == (FULL, DELTA)
    assert (other["first"]["bytes_lan"], other["update"]["bytes_lan"]) == (FULL + 16_384, DELTA)
    assert other["first"]["bytes_origin"] == other["update"]["bytes_origin"] == 0
    console = Console(width=120, file=StringIO())
    with console.capture() as printed:
        console.print(summary_table(facts_of(told)))
    rows = [line for line in printed.get().splitlines() if "agent-" in line]
    assert [cell.strip() for cell in rows[1].split("│")[1:-1]] == [
        *("agent-2", "2", "123.4 kB", "0 B", "1.8 kB", "0 B", "committed")
    ]


def test_copies_are_of_what_the_origin_counted(told: Told) -> None:
    facts = facts_of(replace(told, first=replace(told.first, origin_bytes=FULL * 2)))
    assert facts["first"]["origin_copies"] == 2.0
    assert "sent 2.0 copies of the release for 2 agents" in last_words(facts)


def test_an_update_that_travels_as_a_delta_is_called_one(told: Told) -> None:
    assert "of its update 1.8 kB: it travels as a delta of 1.8 kB in the place of 107.0 kB" in last_words(
        facts_of(told)
    )
    full = replace(told.update, delta_bytes=None, origin_bytes=FULL)
    assert "of its update 1.0 copies. " in last_words(facts_of(replace(told, update=full)))


def test_it_went_well_if_all_of_it_was_seen(told: Told) -> None:
    assert all_went_well(facts_of(told))
    assert not all_went_well(facts_of(replace(told, restored=False)))
    assert not all_went_well(facts_of(replace(told, halted_with="")))
    assert not all_went_well(facts_of(replace(told, final=(told.final[0], sight("agent-2", "1")))))
