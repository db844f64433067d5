# SPDX-License-Identifier: Apache-2.0
"""Records on disk, and what they say of active, previous and retained releases in every phase."""

from pathlib import Path

import pytest

from p2pd.installer.disk import Disk
from p2pd.installer.journal import MAX_RECORD_BYTES, Journal, Phase, ProductRecord, Release
from signing.errors import BadInput


def release(counter: int) -> Release:
    return Release(
        version=f"1.{counter}",
        release_counter=counter,
        manifest_sha256=f"{counter:x}" * 64,
        installed_at=counter,
        slot=f"{counter}-x",
    )


A, B, C = release(1), release(2), release(3)
IDLE = ProductRecord(product="tool", installer="slot", committed=B, fallback=A)
INSTALLING = IDLE.installing(C, "slot")


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
