# SPDX-License-Identifier: Apache-2.0
"""Records on disk, and what they say of active, previous and retained releases in every phase."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from p2pd.installer.disk import Disk
from p2pd.installer.journal import MAX_RECORD_BYTES, Journal, Phase, ProductRecord, Release
from signing.errors import BadInput
from signing.structure import flatten


def release(counter: int) -> Release:
    return Release(
        version=f"1.{counter}",
        release_counter=counter,
        manifest_sha256=f"{counter:x}" * 64,
        installed_at=counter,
        slot=f"{counter}-x",
    )


A, B, C, D = (release(counter) for counter in (1, 2, 3, 4))
IDLE = ProductRecord(product="tool", installer="slot", committed=B, fallback=A)
INSTALLING = IDLE.installing(C, "slot")
REPLACING = INSTALLING.on_probation().installing(D, "slot")


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path, Disk())


@pytest.mark.parametrize(
    ("record", "phase", "active", "previous", "retained"),
    [
        (IDLE, Phase.IDLE, B, A, (B, A)),
        (INSTALLING, Phase.INSTALLING, B, A, (B, A, C)),
        (INSTALLING.undone(), Phase.IDLE, B, A, (B, A)),
        (INSTALLING.on_probation(), Phase.PROBATION, C, B, (B, A, C)),
        (INSTALLING.on_probation().with_committed_candidate(), Phase.IDLE, C, B, (C, B)),
        (INSTALLING.on_probation().rolling_back(B), Phase.ROLLING_BACK, C, B, (B, A, C)),
        (INSTALLING.on_probation().rolling_back(B).undone(), Phase.IDLE, B, A, (B, A)),
        (REPLACING, Phase.INSTALLING, C, B, (B, A, D, C)),
        (REPLACING.undone(), Phase.PROBATION, C, B, (B, A, C)),
        (REPLACING.on_probation(), Phase.PROBATION, D, B, (B, A, D)),
        (REPLACING.on_probation().rolling_back(B), Phase.ROLLING_BACK, D, B, (B, A, D)),
        (INSTALLING.on_probation().rolling_back(A), Phase.ROLLING_BACK, C, A, (A, C)),
        (INSTALLING.on_probation().rolling_back(A).rolling_back(A), Phase.ROLLING_BACK, C, A, (A, C)),
        (INSTALLING.on_probation().rolling_back(B).rolling_back(B), Phase.ROLLING_BACK, C, B, (B, A, C)),
        (IDLE.rolling_back(A), Phase.ROLLING_BACK, B, A, (A, B)),
        (IDLE.rolling_back(A).undone(), Phase.IDLE, A, None, (A,)),
        (IDLE.rolling_back(A).on_probation(), Phase.PROBATION, B, A, (A, B)),
    ],
)
def test_what_a_record_says(
    journal: Journal,
    record: ProductRecord,
    phase: Phase,
    active: Release | None,
    previous: Release | None,
    retained: tuple[Release, ...],
) -> None:
    journal.write(record)
    read = journal.read("tool")
    assert read == record
    assert read is not None
    assert (read.phase, read.active, read.previous, read.retained) == (phase, active, previous, retained)


def test_where_a_record_leads_back_to() -> None:
    demanding = replace(C, oldest_fallback=2)
    assert IDLE.fallbacks == (A,)
    assert INSTALLING.on_probation().fallbacks == (B, A)
    assert IDLE.installing(demanding, "slot").on_probation().fallbacks == (B,)
    assert IDLE.rolling_back(A).undone().fallbacks == ()
    assert IDLE.rolling_back(A).fallbacks == (A,)


def test_products_are_found_by_their_records(journal: Journal, tmp_path: Path) -> None:
    assert journal.read("tool") is None
    journal.write(IDLE)
    (tmp_path / ".other.json.new").write_text("left by a kill")
    assert journal.products() == ("tool",)
    journal.recover()
    assert [path.name for path in tmp_path.iterdir()] == ["tool.json"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"product": "tool"}',
        "[" * 10_000,
        '{"product": "tool", "installer": "slot", "phase": "probation"}',
        json.dumps({**flatten(IDLE), "abandoned": flatten(C)}),
    ],
)
def test_damaged_records_are_named(journal: Journal, tmp_path: Path, text: str) -> None:
    (tmp_path / "tool.json").write_text(text)
    with pytest.raises(BadInput, match=r"tool\.json"):
        journal.read("tool")


def test_a_record_under_another_name_is_refused(journal: Journal, tmp_path: Path) -> None:
    journal.write(IDLE)
    (tmp_path / "tool.json").rename(tmp_path / "loot.json")
    with pytest.raises(BadInput, match="is the record of 'tool'"):
        journal.read("loot")


def test_a_huge_record_is_not_read(journal: Journal, tmp_path: Path) -> None:
    (tmp_path / "tool.json").write_bytes(b" " * (MAX_RECORD_BYTES + 1))
    with pytest.raises(BadInput, match="at most"):
        journal.read("tool")
