# SPDX-License-Identifier: Apache-2.0
"""Tables, JSON and pictures of known runs."""

import json
from pathlib import Path

import pytest

from bench.pictures import draw_all, typical_runs
from bench.report import BEGIN, END, by_scene, growth_table, latest_json, tables, write_into
from bench.results_file import append_run, read_runs
from bench.summary import summaries
from signing.errors import BadInput
from tests.bench.outcomes import MB, outcome

RUNS = [
    outcome({"one": 11.0, "two": 11.5}),
    outcome({"one": 11.0, "two": 12.5}),
    outcome({"one": 18.0, "two": None}, contender="aria2", origin_payload_bytes=None),
    outcome({"one": 10.5, "two": 11.0}, scene="sites-3x5", busiest_wan_bytes=105 * MB, killed=("three",)),
]


def test_runs_come_back_from_the_file_as_they_were(tmp_path: Path) -> None:
    for run in RUNS:
        append_run(tmp_path / "new" / "runs.jsonl", run)
    assert read_runs(tmp_path / "new" / "runs.jsonl") == RUNS


def test_a_file_that_is_no_runs_says_where(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="make bench"):
        read_runs(tmp_path / "none")
    path = tmp_path / "runs.jsonl"
    append_run(path, RUNS[0])
    for line in ("{}", "[]", "nonsense", '{"endpoints": {}}'):
        path.write_text(path.read_text().splitlines()[0] + f"\n{line}\n")
        with pytest.raises(BadInput, match="line 2"):
            read_runs(path)


def test_one_table_for_each_scene_the_fastest_first() -> None:
    text = tables(RUNS, machine="2 cores")
    assert "Measured on 2 cores." in text
    rows = [line for line in text.splitlines() if line.startswith("| ") and "---" not in line]
    assert [row.split(" | ")[0] for row in rows] == ["| contender", "| p2pd", "| aria2", "| contender", "| p2pd"]
    p2pd, aria2 = rows[1], rows[2]
    assert "| 1.20 (1.15\N{EN DASH}1.25) |" in p2pd
    assert "| 1.010 |" in p2pd
    assert "| ≥ 12.00 |" in aria2
    assert "| ~ 1.014 |" in aria2
    assert p2pd.endswith("| 2 |")
    assert len({row.count("|") for row in rows}) == 1


def test_json_has_an_object_for_each_scene_and_contender() -> None:
    found = json.loads(latest_json(RUNS))
    assert [(entry["scene"], entry["contender"], entry["runs"]) for entry in found] == [
        ("flat-10", "p2pd", 2),
        ("flat-10", "aria2", 1),
        ("sites-3x5", "p2pd", 1),
    ]
    for name in ("ratio", "copies", "seconds", "cpu_seconds_per_gb", "peak_rss_bytes", "p50", "p99"):
        assert found[0][f"{name}_min"] <= found[0][name] <= found[0][f"{name}_max"]


def test_tables_go_between_the_marks_and_nowhere_else(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text(f"# Before\n{BEGIN}\nold\n{END}\nAfter\n")
    for text in ("new", "newer"):
        write_into(document, text)
        assert document.read_text() == f"# Before\n{BEGIN}\n\n{text}\n{END}\nAfter\n"
    document.write_text("no marks")
    with pytest.raises(BadInput, match="no place for tables"):
        write_into(document, "new")
    assert document.read_text() == "no marks"


def test_the_typical_run_is_the_middle_one() -> None:
    typical = typical_runs([*RUNS[:3], outcome({"one": 99.0, "two": 99.0})])
    assert list(typical) == ["p2pd", "aria2"]
    assert typical["p2pd"] == RUNS[1]


def test_two_pictures_for_each_scene(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need the extra `bench`")
    drawn = draw_all(by_scene(RUNS), tmp_path)
    assert [path.name for path in drawn] == [
        f"{kind}-{scene}.svg" for scene in ("flat-10", "sites-3x5") for kind in ("finish-times", "link-bytes")
    ]
    assert all(b"<svg" in path.read_bytes() for path in drawn)


def test_growth_has_a_line_for_each_size() -> None:
    lines = growth_table(summaries(RUNS[:1])).splitlines()
    assert [line.count("|") for line in lines] == [9, 9, 9]
    assert lines[2].startswith("| p2pd | 2 | ")
