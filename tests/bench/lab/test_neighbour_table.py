# SPDX-License-Identifier: Apache-2.0
"""The neighbour table: room while labs stand, the machine's own limits afterwards."""

import os
import shutil
from pathlib import Path

import pytest

from bench.lab import neighbour_table
from bench.lab.commands import LabError
from bench.lab.neighbour_table import room_for_neighbours

ORIGINAL = {"gc_thresh1": 128, "gc_thresh2": 512, "gc_thresh3": 1024}
OURS = f"p2pd-lab-{os.getpid()}"
NOBODY = 2**22 + 1  # above the largest process id that Linux gives


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """IPv4's settings, in a directory that stands for /proc/sys/net; this kernel has no IPv6."""
    directory = tmp_path / "net" / "ipv4" / "neigh" / "default"
    directory.mkdir(parents=True)
    for name, value in ORIGINAL.items():
        (directory / name).write_text(str(value))
    monkeypatch.setattr(neighbour_table, "SETTINGS", tmp_path / "net")
    monkeypatch.setattr(neighbour_table, "CLAIMS", tmp_path / "claims")
    return directory


def limits(settings: Path) -> dict[str, int]:
    return {path.name: int(path.read_text()) for path in sorted(settings.iterdir())}


def test_there_is_room_while_a_lab_stands(settings: Path) -> None:
    with room_for_neighbours(f"{OURS}-0", 40):
        assert limits(settings) == {"gc_thresh1": 1600, "gc_thresh2": 2400, "gc_thresh3": 3200}
    assert limits(settings) == ORIGINAL


def test_a_small_lab_changes_nothing(settings: Path) -> None:
    with room_for_neighbours(f"{OURS}-0", 10):
        assert limits(settings) == ORIGINAL


def test_two_labs_have_room_side_by_side(settings: Path) -> None:
    one, two = room_for_neighbours(f"{OURS}-0", 40), room_for_neighbours(f"{OURS}-1", 50)
    one.__enter__()
    two.__enter__()
    assert limits(settings)["gc_thresh1"] == 1600 + 2500
    one.__exit__(None, None, None)
    assert limits(settings)["gc_thresh1"] == 2500
    two.__exit__(None, None, None)
    assert limits(settings) == ORIGINAL


def test_what_a_killed_lab_raised_is_put_back_by_the_next(
    settings: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path_factory.mktemp("left") / "by the killed"
    with room_for_neighbours(f"{OURS}-0", 100):
        shutil.copytree(tmp_path, left)
    (left / "claims" / f"{OURS}-0").rename(left / "claims" / f"p2pd-lab-{NOBODY}-0")
    monkeypatch.setattr(neighbour_table, "SETTINGS", left / "net")
    monkeypatch.setattr(neighbour_table, "CLAIMS", left / "claims")
    of_killed = left / settings.relative_to(tmp_path)
    assert limits(of_killed)["gc_thresh1"] == 10_000
    with room_for_neighbours(f"{OURS}-0", 40):
        assert limits(of_killed)["gc_thresh1"] == 1600
    assert limits(of_killed) == ORIGINAL


def test_a_machine_that_refuses_is_named(settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbour_table, "CLAIMS", settings / "gc_thresh1" / "claims")
    with pytest.raises(LabError, match="cannot make room in the neighbour table"), room_for_neighbours(OURS, 1):
        pass
