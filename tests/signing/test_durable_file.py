# SPDX-License-Identifier: Apache-2.0
"""Many small files at once: each whole at any instant, none half, and nothing left lying about."""

import os
from pathlib import Path

import pytest

from signing.durable_file import MOST_TOGETHER, replace_together, unfinished_name


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_all_are_there_however_many(tmp_path: Path) -> None:
    files = {tmp_path / f"file-{number}": os.urandom(number) for number in range(2 * MOST_TOGETHER + 1)}
    (tmp_path / "file-7").write_bytes(b"older")
    replace_together(files.items(), mode=0o600)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == files
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


def test_the_last_of_one_name_counts(tmp_path: Path) -> None:
    replace_together([(tmp_path / "a", b"first"), (tmp_path / "b", b"other"), (tmp_path / "a", b"last")])
    assert (tmp_path / "a").read_bytes() == b"last"
    assert names(tmp_path) == {"a", "b"}


def test_names_may_be_as_long_as_the_file_system_lets_them(tmp_path: Path) -> None:
    first, second = tmp_path / ("n" * 254 + "1"), tmp_path / ("n" * 254 + "2")
    replace_together([(first, b"1"), (second, b"2")])
    assert (first.read_bytes(), second.read_bytes()) == (b"1", b"2")


def test_no_name_is_given_before_all_of_a_group_is_on_the_medium(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed, seen = 0, list[tuple[int, set[str]]]()
    real = os.fsync

    def fsync(descriptor: int) -> None:
        nonlocal flushed
        seen.append((flushed, {name for name in names(tmp_path) if name[0] != "."}))
        real(descriptor)
        flushed += 1

    monkeypatch.setattr(os, "fsync", fsync)
    replace_together([(tmp_path / name, b"data") for name in "abc"])
    assert seen == [(0, set()), (1, set()), (2, set())]
    assert names(tmp_path) == set("abc")


def test_one_that_fails_leaves_nothing_half_done(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()  # in the way of the last step
    (tmp_path / "c").write_bytes(b"older")
    with pytest.raises(OSError, match="directory"):
        replace_together([(tmp_path / name, b"newer") for name in "abc"])
    assert names(tmp_path) == {"a", "b", "c"}
    assert (tmp_path / "c").read_bytes() == b"older"


def test_what_a_kill_left_is_replaced_and_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    unfinished_name(tmp_path / "a").write_bytes(b"half a file that was longer")
    replace_together([(tmp_path / "a", b"whole")])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"whole"}
    unfinished_name(tmp_path / "a").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic link"):
        replace_together([(tmp_path / "a", b"again")])
    assert not (tmp_path / "elsewhere").exists()
