# SPDX-License-Identifier: Apache-2.0
"""Tests of p2pd.host.atomic_file."""

import os
import stat
from pathlib import Path

import pytest

from p2pd.host.atomic_file import read_bounded, write_atomically
from signing.errors import BadInput


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_it_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "state"
    write_atomically(path, b"one")
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert names(tmp_path) == ["state"]


def test_the_mode_does_not_depend_on_the_umask(tmp_path: Path) -> None:
    earlier = os.umask(0o077)
    try:
        write_atomically(tmp_path / "open", b"", mode=0o644)
    finally:
        os.umask(earlier)
    write_atomically(tmp_path / "secret", b"")
    assert stat.S_IMODE((tmp_path / "open").stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state"
    write_atomically(path, b"old")

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("p2pd.host.atomic_file.os.fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["state"]


def test_file_and_directory_are_synced_around_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def seen_fsync(descriptor: int) -> None:
        steps.append("sync directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "sync file")
        fsync(descriptor)

    def seen_replace(source: str, target: Path) -> None:
        steps.append("rename")
        replace(source, target)

    monkeypatch.setattr("p2pd.host.atomic_file.os.fsync", seen_fsync)
    monkeypatch.setattr("p2pd.host.atomic_file.os.replace", seen_replace)
    write_atomically(tmp_path / "state", b"data")
    assert steps == ["sync file", "rename", "sync directory"]


def test_reading_stops_at_the_bound(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_bounded(path, 5) == b"12345"
    with pytest.raises(BadInput, match="is 5 bytes, at most 4") as refused:
        read_bounded(path, 4)
    assert str(path) in str(refused.value)


def test_a_file_that_lies_about_its_size_is_bounded_too() -> None:
    with pytest.raises(BadInput, match="more than 10 bytes"):  # files of /proc say that they have 0 bytes
        read_bounded(Path("/proc/self/status"), 10)


def test_a_named_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(BadInput, match="not a regular file"):
        read_bounded(pipe, 10)
    with pytest.raises(BadInput, match="not a regular file"):
        read_bounded(tmp_path, 10)


def test_a_missing_file_is_the_callers_business(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_bounded(tmp_path / "none", 10)
