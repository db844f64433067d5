# SPDX-License-Identifier: Apache-2.0
"""Trees: sorted, with all parents, within bounds, free of contradictions."""

import pytest

from seeds.adapters.sources.entries import Entry, EntryKind
from seeds.adapters.sources.tree import Tree, TreeBounds
from signing.errors import BadInput


def tree(*paths: str, bounds: TreeBounds | None = None) -> Tree:
    made = Tree("here", bounds)
    for path in paths:
        made.add(Entry(path.rstrip("/"), EntryKind.DIRECTORY if path.endswith("/") else EntryKind.FILE, size=10))
    return made


def test_order_is_that_of_the_bytes_of_paths() -> None:
    entries = tree("b", "a/x", "a-b", "a.b", "é", "Z", "\uffff", "\U00010000").complete()
    assert [entry.path for entry in entries] == ["Z", "a", "a-b", "a.b", "a/x", "b", "é", "\uffff", "\U00010000"]


def test_all_parents_are_there_and_before_their_children() -> None:
    entries = tree("a/b/c/d", "a/b/e").complete()
    assert [entry.path for entry in entries] == ["a", "a/b", "a/b/c", "a/b/c/d", "a/b/e"]
    assert {entry.kind for entry in entries if entry.path in ("a", "a/b", "a/b/c")} == {EntryKind.DIRECTORY}


def test_directory_may_be_named_twice_and_the_root_any_number_of_times() -> None:
    assert [entry.path for entry in tree("/", "d/", "d/f", "d/", "/").complete()] == ["d", "d/f"]


@pytest.mark.parametrize("paths", [("a", "a"), ("a/", "a"), ("a", "a/")])
def test_path_that_stands_twice_is_refused(paths: tuple[str, str]) -> None:
    with pytest.raises(BadInput, match="here: 'a': stands twice"):
        tree(*paths)


def test_entry_below_a_file_is_refused() -> None:
    with pytest.raises(BadInput, match="here: 'a/b/c': lies below 'a', which is a file"):
        tree("a/b/c", "a").complete()


def test_empty_tree_is_refused() -> None:
    with pytest.raises(BadInput, match="here: is empty"):
        tree("/").complete()


def test_members_are_bounded_and_implied_directories_count() -> None:
    bounds = TreeBounds(members=3)
    assert len(tree("a/b/c", bounds=bounds).complete()) == 3
    with pytest.raises(BadInput, match="more than 3 members"):
        tree("a/b/c/d", bounds=bounds).complete()
    with pytest.raises(BadInput, match="more than 3 members"):
        tree("a", "b", "c", "d", bounds=bounds)


def test_content_is_bounded_by_what_is_declared() -> None:
    with pytest.raises(BadInput, match="'c': brings the content to more than 29 bytes"):
        tree("a", "b", "c", bounds=TreeBounds(content_bytes=29))


def test_names_are_bounded_together() -> None:
    with pytest.raises(BadInput, match="more than 100 bytes of names"):
        tree("n" * 60, "m" * 60, bounds=TreeBounds(name_bytes=100))


def test_negative_size_is_refused() -> None:
    with pytest.raises(BadInput, match="size of -1 bytes"):
        Tree("here").add(Entry("a", EntryKind.FILE, size=-1))


def test_losses_are_counted_with_an_example() -> None:
    made = tree("a")
    made.lose("owners", "x")
    made.lose("owners", "y")
    assert made.losses() == ("owners: 2, first 'x'",)
