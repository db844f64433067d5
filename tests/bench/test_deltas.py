# SPDX-License-Identifier: Apache-2.0
"""The benchmark of deltas measures what it says, on wheels made here in place of those that pip fetches."""

import json
import random
import sys
import zipfile
from pathlib import Path

import pytest

from bench import deltas


def wheel(directory: Path, version: str) -> Path:
    path = directory / f"tool-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tool/data", random.Random(1).randbytes(300_000))  # noqa: S311 (content for tests)
        archive.writestr("tool/version", version)
    return path


def test_the_ways_to_travel_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(deltas, "fetch", lambda _package, version, _directory: wheel(tmp_path, version))
    monkeypatch.setattr(sys, "argv", ["deltas", "tool==1,2", "--json", str(tmp_path / "out" / "deltas.json")])
    deltas.main()
    rows = json.loads((tmp_path / "out" / "deltas.json").read_text())
    assert [row["way"] for row in rows] == ["full", "hdiffpatch", "zstd-patch-from"]
    full, ours, zstd = rows
    assert full["share_of_full"] == 1
    assert 300_000 < full["bytes"] < 310_000
    assert ours["bytes"] < 1_000
    assert zstd["bytes"] < full["bytes"]
    for row in rows:
        for step in ("make", "apply"):
            assert row[step]["cpu_seconds"] >= 0
            assert row[step]["peak_rss_bytes"] > 10_000_000
    assert "tool 1 → 2" in capsys.readouterr().out


def test_a_pair_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["deltas", "numpy"])
    with pytest.raises(SystemExit):
        deltas.main()
    assert "PACKAGE==OLD,NEW" in capsys.readouterr().err
