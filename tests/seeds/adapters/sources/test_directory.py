# SPDX-License-Identifier: Apache-2.0
"""Directories: everything in them, and nothing that cannot travel."""

import os
import socket
from pathlib import Path

import pytest

from seeds.adapters.sources.opening import open_source
from signing.errors import BadInput
from tests.seeds.adapters.sample_trees import File, write_directory


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_directory({"f": File(b"x"), "d": None}, tmp_path / "root")


def read_all(root: Path) -> None:
    with open_source(root, root.parent) as source:
        for entry in source.entries:
            list(entry.read())


def problem(root: Path) -> str:
    with pytest.raises(BadInput) as refusal:
        read_all(root)
    return str(refusal.value)


def test_directory_may_be_named_through_a_link(root: Path) -> None:
    (root.parent / "link").symlink_to("root")
    with open_source(root.parent / "link", root.parent) as source:
        assert [entry.path for entry in source.entries] == ["d", "f"]


def test_empty_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert problem(tmp_path / "empty").startswith(f"{tmp_path / 'empty'}: is empty")


def test_missing_source_is_named(tmp_path: Path) -> None:
    assert problem(tmp_path / "gone") == f"{tmp_path / 'gone'}: cannot be read (No such file or directory)"


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "d/../../outside"])
def test_links_out_are_refused(root: Path, target: str) -> None:
    (root / "link").symlink_to(target)
    assert f"'link': links to {'the absolute path ' if target[0] == '/' else ''}{target!r}" in problem(root)


def test_link_to_a_directory_is_not_walked_into(root: Path) -> None:
    (root / "d" / "loop").symlink_to("..")
    with open_source(root, root.parent) as source:
        assert [entry.path for entry in source.entries] == ["d", "d/loop", "f"]


def test_pipes_and_sockets_are_refused(root: Path) -> None:
    os.mkfifo(root / "pipe")
    assert "'pipe': is a device, a socket or a named pipe" in problem(root)
    (root / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "s"))
        assert "'s': is a device, a socket or a named pipe" in problem(root)


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o1644])
def test_special_bits_are_refused(root: Path, mode: int) -> None:
    (root / "f").chmod(mode)
    assert f"'f': has mode {mode:04o}" in problem(root)


def test_set_group_bit_of_a_directory_is_everyday_life(root: Path) -> None:
    (root / "d").chmod(0o2775)
    with open_source(root, root.parent) as source:
        assert len(source.entries) == 2


def test_names_that_are_not_utf8_are_refused(root: Path) -> None:
    (root / os.fsdecode(b"caf\xe9")).write_bytes(b"")
    assert r"'caf\\xe9': is not UTF-8" in problem(root)


def test_names_with_a_backslash_are_refused(root: Path) -> None:
    (root / "a\\b").write_bytes(b"")
    assert "reads as a path of another system" in problem(root)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file_is_named(root: Path) -> None:
    (root / "f").chmod(0)
    assert "'f': cannot be read (Permission denied)" in problem(root)
