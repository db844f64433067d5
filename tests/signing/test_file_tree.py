# SPDX-License-Identifier: Apache-2.0
"""Trees of files: what is listed, what is left over, and what goes."""

from pathlib import Path

import pytest

from signing.file_tree import files_below, remove_empty_directories, remove_unfinished, write_together


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with a link that leads out of it, and one that leads nowhere."""
    tree, outside = tmp_path / "tree", tmp_path / "outside"
    write_together([(tree / "a" / "b" / "file", b"1"), (tree / "a" / ".half", b"2"), (outside / "file", b"3")])
    (outside / ".half").write_bytes(b"4")
    (outside / "empty").mkdir()
    (tree / "empty" / "inner").mkdir(parents=True)
    (tree / "a" / "out").symlink_to(outside)
    (tree / "a" / "nowhere").symlink_to(tmp_path / "missing")
    return tree


def test_hidden_files_are_writers_own(tree: Path) -> None:
    assert files_below(tree) == {tree / "a" / "b" / "file"}
    remove_unfinished(tree)
    assert not (tree / "a" / ".half").exists()
    assert (tree / "a" / "b" / "file").read_bytes() == b"1"


def test_empty_directories_go_with_those_above_them(tree: Path) -> None:
    remove_empty_directories(tree)
    assert {path.name for path in tree.iterdir()} == {"a"}
    assert {path.name for path in (tree / "a").iterdir()} == {"b", ".half", "out", "nowhere"}


def test_links_lead_nowhere(tree: Path) -> None:
    remove_unfinished(tree)
    remove_empty_directories(tree)
    assert {path.name for path in (tree.parent / "outside").iterdir()} == {"file", ".half", "empty"}


def test_what_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert files_below(tmp_path / "missing") == set()
    remove_unfinished(tmp_path / "missing")
    remove_empty_directories(tmp_path / "missing")
