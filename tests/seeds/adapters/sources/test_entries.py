# SPDX-License-Identifier: Apache-2.0
"""Names and links: plain ones pass unchanged, a package's absolute links become relative."""

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seeds.adapters.sources.entries import (
    MAX_DEPTH,
    MAX_PATH_BYTES,
    entry_path,
    is_executable,
    link_target,
    refuse_special_bits,
)
from signing.errors import BadInput


@pytest.mark.parametrize("name", ["a", "a/b", "..a", "a..", "...", ".hidden", "a b", "B/C::D", "日本/é", "a\nb", "-rf"])
def test_plain_names_pass_unchanged(name: str) -> None:
    assert entry_path(name.encode(), "here") == name


def test_one_dot_slash_at_the_beginning_stands_for_nothing() -> None:
    assert entry_path(b"./a/b", "here") == "a/b"
    with pytest.raises(BadInput, match="empty part or"):
        entry_path(b"././a", "here")


@pytest.mark.parametrize("name", [b".", b"./"])
def test_root_is_no_entry(name: bytes) -> None:
    assert entry_path(name, "here", is_directory=True) == ""
    with pytest.raises(BadInput):
        entry_path(name, "here")


def test_directories_may_end_in_a_slash_and_files_may_not() -> None:
    assert entry_path(b"d/", "here", is_directory=True) == "d"
    with pytest.raises(BadInput):
        entry_path(b"d/", "here")
    with pytest.raises(BadInput):
        entry_path(b"d//", "here", is_directory=True)


@given(st.binary(max_size=40))
def test_whatever_passes_stays_inside(raw: bytes) -> None:
    try:
        path = entry_path(raw, "here")
    except BadInput:
        return
    assert posixpath.normpath(path) == path
    assert path.split("/")[0] not in ("", "..")


@pytest.mark.parametrize("name", ["/".join("a" * (MAX_DEPTH + 1)), "/".join(["n" * 200] * (MAX_PATH_BYTES // 200 + 1))])
def test_bounds_are_named(name: str) -> None:
    with pytest.raises(BadInput, match=f"deeper than {MAX_DEPTH} directories or longer than {MAX_PATH_BYTES}"):
        entry_path(name.encode(), "here")


@pytest.mark.parametrize(
    ("path", "target"),
    [("link", "a"), ("link", "./a/b"), ("d/link", "../a"), ("d/e/link", "../../a"), ("link", "."), ("d/link", "..")],
)
def test_links_inside_pass_unchanged(path: str, target: str) -> None:
    assert link_target(target.encode(), path, "here") == target


@pytest.mark.parametrize(
    ("path", "target"),
    [("link", ".."), ("link", "../a"), ("d/link", "../../a"), ("d/link", "./.././../a"), ("d/link", "x/../../../a")],
)
def test_links_outside_are_refused(path: str, target: str) -> None:
    with pytest.raises(BadInput, match=r"here: '(d/)?link': links to"):
        link_target(target.encode(), path, "here")


@pytest.mark.parametrize(
    ("path", "target", "relative"),
    [
        ("usr/bin/vi", "/etc/alternatives/vi", "../../etc/alternatives/vi"),
        ("usr/bin/a", "/usr/bin/b", "b"),
        ("usr/bin/a", "//usr//./lib/", "../lib"),
        ("usr/bin/a", "/", "../.."),
        ("a", "/b", "b"),
        ("a", "/", "."),
    ],
)
def test_absolute_links_of_a_package_are_made_relative(path: str, target: str, relative: str) -> None:
    assert link_target(target.encode(), path, "here", absolute_is_root=True) == relative


@pytest.mark.parametrize("mode", [0o4755, 0o2644, 0o1600, 0o6111])
def test_special_bits_are_refused(mode: int) -> None:
    with pytest.raises(BadInput, match=f"has mode {mode:04o}"):
        refuse_special_bits(mode, "here")


def test_the_owners_bit_says_what_is_executable() -> None:
    assert is_executable(0o700)
    assert not is_executable(0o655)
